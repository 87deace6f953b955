"""Images in memory that a GPU copies from by itself."""

from __future__ import annotations

from dataclasses import replace

import torch

from region_features.records.prepared_image import PreparedImage


def pinned(image: PreparedImage) -> PreparedImage:
    """The image with its pixels in page-locked memory; as it is where there is no GPU.

    Called in the reader threads, which leaves the detector's thread free to queue work.
    """
    if not torch.cuda.is_available() or image.pixels.size == 0:
        return image
    return replace(image, pixels=torch.from_numpy(image.pixels).pin_memory().numpy())
