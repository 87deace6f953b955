"""Boxes that were given in place of proposals, as the network takes them.

B: boxes of the image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def to_resized(boxes: NDArray[np.float32], scale: float | NDArray[np.float32]) -> NDArray[np.float32]:
    """Boxes in pixels of the resized image, from pixels of the original.

    Every proposal at the image's border ends on a whole pixel, and RoIPool rounds: where division by the scale and
    multiplication with it have moved such an end by their rounding, it is put back, so that a network's own boxes give
    the features that it gave for them.

    Args:
        boxes: float32 (B, 4), pixels of the original image.
        scale: resized size over original size, one for both axes or (4,), one a column.

    Returns:
        float32 (B, 4), in the same order.
    """
    resized = boxes * np.asarray(scale, np.float32)
    whole = np.rint(resized)
    return np.where(np.abs(resized - whole) <= 2 * np.spacing(np.abs(whole)), whole, resized)
