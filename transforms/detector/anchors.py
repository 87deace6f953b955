"""Anchors of the proposal network and the boxes decoded from them, in the original's float32 arithmetic.

Source: Faster R-CNN's `generate_anchors.py`, `bbox_transform.py` and `proposal_layer.py`, as described in
https://arxiv.org/abs/1506.01497. h, w: cells of the feature map; A: anchors a cell; N: h * w * A.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STRIDE = 16
RATIOS = (0.5, 1.0, 2.0)
SCALES = (4, 8, 16, 32)


def cell_anchors() -> NDArray[np.float32]:
    """The twelve anchors of the first cell, ratio-major: float32 (A, 4), x1, y1, x2, y2, both ends included."""
    base = float(STRIDE)
    centre = (base - 1) / 2
    rows = []
    for ratio in RATIOS:
        width = np.round(np.sqrt(base * base / ratio))
        height = np.round(width * ratio)
        for scale in SCALES:
            half_w, half_h = (width * scale - 1) / 2, (height * scale - 1) / 2
            rows.append((centre - half_w, centre - half_h, centre + half_w, centre + half_h))
    return np.array(rows, dtype=np.float32)


def grid_anchors(height: int, width: int) -> NDArray[np.float32]:
    """Anchors of a whole feature map, in the order (h, w, anchor).

    Args:
        height, width: cells of the feature map.

    Returns:
        float32 (N, 4), pixels of the resized image.
    """
    shift_x, shift_y = np.meshgrid(np.arange(width) * STRIDE, np.arange(height) * STRIDE)
    shifts = np.stack([shift_x, shift_y, shift_x, shift_y], axis=-1).astype(np.float32)  # (h, w, 4)
    return (shifts[:, :, None, :] + cell_anchors()).reshape(-1, 4)


def decode(anchors: NDArray[np.float32], deltas: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Moves anchors by the network's deltas and clips them to the image.

    Args:
        anchors, deltas: float32 (N, 4).
        height, width: pixels of the resized image.

    Returns:
        float32 (N, 4), x1, y1, x2, y2.
    """
    half = np.float32(0.5)
    widths = anchors[:, 2] - anchors[:, 0] + np.float32(1)
    heights = anchors[:, 3] - anchors[:, 1] + np.float32(1)
    centre_x = deltas[:, 0] * widths + (anchors[:, 0] + half * widths)
    centre_y = deltas[:, 1] * heights + (anchors[:, 1] + half * heights)
    with np.errstate(over="ignore"):  # an exploding box becomes the whole image by clipping
        half_w = half * (np.exp(deltas[:, 2]) * widths)
        half_h = half * (np.exp(deltas[:, 3]) * heights)
    # No -1 at the far corner: the original leaves it out.
    boxes = np.stack([centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h], axis=1)
    limits = np.array([width - 1, height - 1, width - 1, height - 1], dtype=np.float32)
    return np.maximum(np.minimum(boxes, limits), np.float32(0))


def large_enough(boxes: NDArray[np.float32], minimum: float) -> NDArray[np.bool_]:
    """Which boxes (N, 4) have both sides, ends included, of at least `minimum` pixels: bool (N,)."""
    least = np.float32(minimum)
    widths = boxes[:, 2] - boxes[:, 0] + np.float32(1)
    heights = boxes[:, 3] - boxes[:, 1] + np.float32(1)
    return (widths >= least) & (heights >= least)
