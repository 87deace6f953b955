"""Boxes of a user's file in the pixels of the resized image, in place of proposals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def to_resized(boxes: NDArray[np.float32], scale: float | NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert boxes from pixels of the original image to pixels of the resized image.

    A network's own boxes must give the features that it gave for them. Proposals at the image's border end on a whole
    pixel, and RoIPool rounds: ends that division and multiplication by the scale moved off a whole pixel are put back.

    Args:
        boxes: float32 (B, 4), pixels of the original image.
        scale: resized size over original size, of both axes or (4,), one a column.

    Returns:
        float32 (B, 4), in the same order.
    """
    resized = boxes * np.asarray(scale, np.float32)
    whole = np.rint(resized)
    return np.where(np.abs(resized - whole) <= 2 * np.spacing(np.abs(whole)), whole, resized)
