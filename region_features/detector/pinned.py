"""Images in page-locked memory, from which a GPU copies without the processor."""

from __future__ import annotations

from dataclasses import replace

import torch

from region_features.records.prepared_image import PreparedImage


def pinned(image: PreparedImage) -> PreparedImage:
    """Return the image with its pixels in page-locked memory; unchanged on a machine without a GPU.

    Called in the reader threads, which leaves the detector's thread free to queue work.
    """
    if not torch.cuda.is_available() or image.pixels.size == 0:
        return image
    return replace(image, pixels=torch.from_numpy(image.pixels).pin_memory().numpy())
