"""What passes between the image reader and the detector, and the settings they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image as the network takes it.

    Attributes:
        img_id: file stem.
        height, width: pixels of the original image, before resizing.
        scale: resized size over original size.
        pixels: float32 (h, w, 3), resized; mean subtracted and BGR for the bottom-up-attention network, as they are and
            in the config's channel order for another detectron2 network.
        boxes: float32 (B, 4), the regions to describe in pixels of the original image; None for the network's own.
    """

    img_id: str
    height: int
    width: int
    scale: float
    pixels: NDArray[np.float32]
    boxes: NDArray[np.float32] | None = None
