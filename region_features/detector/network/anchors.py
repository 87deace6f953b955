"""Anchors of the proposal network and the boxes decoded from them, in the original's float32 arithmetic.

Source: `generate_anchors.py`, `bbox_transform.py` and `proposal_layer.py` of Faster R-CNN,
https://arxiv.org/abs/1506.01497.

h, w: cells of the feature map; A: anchors of a cell; N: h * w * A; B: images.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

STRIDE = 16
RATIOS = (0.5, 1.0, 2.0)
SCALES = (4, 8, 16, 32)


def cell_anchors() -> NDArray[np.float32]:
    """Return the twelve anchors of the first cell, ratio-major: float32 (A, 4), x1, y1, x2, y2, both ends included."""
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


@functools.lru_cache(maxsize=64)
def grid_anchors(height: int, width: int, device: torch.device) -> Tensor:
    """Return the anchors of a whole feature map in the order (h, w, anchor); cached, since most images share a shape.

    Args:
        height, width: cells of the feature map.
        device: place of the result.

    Returns:
        float32 (N, 4), pixels of the resized image.
    """
    shift_x, shift_y = np.meshgrid(np.arange(width) * STRIDE, np.arange(height) * STRIDE)
    shifts = np.stack([shift_x, shift_y, shift_x, shift_y], axis=-1).astype(np.float32)  # (h, w, 4)
    return torch.from_numpy((shifts[:, :, None, :] + cell_anchors()).reshape(-1, 4)).to(device)


def decode(anchors: Tensor, deltas: Tensor, height: int, width: int) -> Tensor:
    """Move anchors by the network's deltas and clip them to the image.

    Args:
        anchors: float32 (N, 4).
        deltas: float32 (B, N, 4).
        height, width: pixels of the resized images.

    Returns:
        float32 (B, N, 4), x1, y1, x2, y2.
    """
    sizes = anchors[:, 2:] - anchors[:, :2] + 1  # (N, 2), widths and heights
    centres = deltas[..., :2] * sizes + (anchors[:, :2] + 0.5 * sizes)
    # Clipping turns a box of infinite size into the whole image.
    halves = 0.5 * (torch.exp(deltas[..., 2:]) * sizes)
    # No -1 at the far corner: the original leaves it out.
    boxes = torch.cat([centres - halves, centres + halves], dim=-1)
    boxes[..., 0::2].clamp_(0, width - 1)
    boxes[..., 1::2].clamp_(0, height - 1)
    return boxes


def large_enough(boxes: Tensor, minimum: Tensor) -> Tensor:
    """Return which boxes (B, N, 4) have both sides, ends included, of at least `minimum` (B,) pixels: bool (B, N)."""
    sides = boxes[..., 2:] - boxes[..., :2] + 1
    return (sides >= minimum[:, None, None]).all(dim=-1)
