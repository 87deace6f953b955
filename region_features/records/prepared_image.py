"""The image that passes from the reader to the detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image in the form that a network takes."""

    img_id: str  # file stem
    height: int  # pixels of the original image, before resizing
    width: int
    scale: float  # resized size over original size
    # (h, w, 3), resized; BGR with the mean subtracted for the bottom-up-attention network, 0 to 255 with channels in
    # the config's order for another detectron2 network.
    pixels: NDArray[np.float32]
    # (B, 4), regions to describe in pixels of the original image; None for the network's proposals.
    boxes: NDArray[np.float32] | None = None


# Image id and decoded pixels, uint8 (H, W, 3) BGR -> the image for a network.
Prepare = Callable[[str, NDArray[np.uint8]], PreparedImage]
