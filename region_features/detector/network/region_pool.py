"""RoIPool as gathers from tables of window maxima, equal to Caffe's and torchvision's bit for bit.

torchvision's kernel walks channel by channel on one thread of the CPU, and takes no bfloat16. Instead, a bin's maximum
is taken of four windows that overlap and together fill it; their sides are powers of two, so all windows of a map fit
into one table, and with channels last each window is one contiguous row.

h, w: cells of the feature map; D: channels; R: regions; P: 14 bins a side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from region_features.detector.network.anchors import STRIDE

POOLED_SIDE = 14
# Bins gathered at a time: on a CPU their rows stay in the second-level cache, on a GPU memory is the limit.
_STEP, _CUDA_STEP = 98, 60 * POOLED_SIDE * POOLED_SIDE


def _round_half_away(values: Tensor) -> Tensor:
    return (values.sign() * (values.abs() + 0.5).floor()).long()


def bins(first: Tensor, last: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Return begin and end of each region's bins along one axis.

    Args:
        first, last: float32 (R,), the region's ends in pixels of the resized image, both included.
        cells: length of the feature map along this axis.

    Returns:
        Begin and end (excluded), int64 (R, P), from 0 to `cells`; an empty bin has end <= begin.
    """
    begin = _round_half_away(first * (1 / STRIDE))
    length = (_round_half_away(last * (1 / STRIDE)) - begin + 1).clamp(min=1)
    # Divide by a tensor: a GPU replaces division by a plain number with multiplication by its reciprocal.
    step = (length.float() / torch.full((), POOLED_SIDE, dtype=torch.float32, device=first.device))[:, None]
    index = torch.arange(POOLED_SIDE, dtype=torch.float32, device=first.device)
    low = (index * step).floor().long() + begin[:, None]
    high = ((index + 1) * step).ceil().long() + begin[:, None]
    return low.clamp(0, cells), high.clamp(0, cells)


@dataclass(frozen=True, eq=False)
class MaxTables:
    """Maxima over windows of 2^a x 2^b cells of one feature map.

    Attributes:
        rows: (levels * levels * h * w + 1, D); the row (a * levels + b) * h * w + y * w + x is the maximum over
            y..y+2^a, x..x+2^b; the last row is zero, for empty bins.
        levels: powers of two along each axis.
        height, width: h and w.
    """

    rows: Tensor
    levels: int
    height: int
    width: int


def _doubled(table: Tensor, axis: int, step: int) -> Tensor:
    """Return maxima of windows twice as long along an axis; windows that leave the map keep their value, never read."""
    out = table.clone()
    keep = table.shape[axis] - step
    if keep > 0:
        head = out.narrow(axis, 0, keep)
        torch.maximum(head, table.narrow(axis, step, keep), out=head)
    return out


def max_tables(feature: Tensor) -> MaxTables:
    """Build the tables for every bin that a region of this map can have.

    Args:
        feature: (1, D, h, w).
    """
    _, channels, height, width = feature.shape
    longest = -(-max(height, width) // POOLED_SIDE) + 1
    levels = longest.bit_length()
    base = feature[0].permute(1, 2, 0).contiguous()  # (h, w, D)
    rows = feature.new_zeros(levels * levels * height * width + 1, channels)
    tables = rows[:-1].view(levels, levels, height, width, channels)
    for a in range(levels):
        tall = base if a == 0 else _doubled(tables[a - 1, 0], 0, 1 << (a - 1))
        for b in range(levels):
            tables[a, b] = tall if b == 0 else _doubled(tables[a, b - 1], 1, 1 << (b - 1))
    return MaxTables(rows, levels, height, width)


def _levels(lengths: Tensor, levels: int) -> Tensor:
    """Return the exponent, below `levels`, of the largest power of two that fits into each length."""
    powers = 1 << torch.arange(1, levels, device=lengths.device)
    return (lengths[:, :, None] >= powers).sum(dim=2)


def pool_indices(tables: MaxTables, regions: Tensor) -> Tensor:
    """Return the four rows of the tables that fill each bin of regions float32 (R, 4): int64 (4, R * P * P)."""
    x1, x2 = bins(regions[:, 0], regions[:, 2], tables.width)
    y1, y2 = bins(regions[:, 1], regions[:, 3], tables.height)
    a, b = _levels(y2 - y1, tables.levels), _levels(x2 - x1, tables.levels)  # (R, P)
    level = (a[:, :, None] * tables.levels + b[:, None, :]) * (tables.height * tables.width)  # (R, P, P)
    empty = (y2 <= y1)[:, :, None] | (x2 <= x1)[:, None, :]
    zero_row = len(tables.rows) - 1
    corners = [
        torch.where(empty, zero_row, level + (y * tables.width)[:, :, None] + x[:, None, :])
        for y in (y1, y2 - (1 << a))
        for x in (x1, x2 - (1 << b))
    ]
    return torch.stack(corners).reshape(4, -1)


def pool_chunk(tables: MaxTables, indices: Tensor) -> Tensor:
    """Take the maximum of each bin's four rows.

    Args:
        tables: of one image.
        indices: int64 (4, R * P * P), see `pool_indices`.

    Returns:
        (R, D, P, P), channels last.
    """
    count = indices.shape[1]
    pooled = tables.rows.new_empty(count, tables.rows.shape[1])
    step = _CUDA_STEP if pooled.is_cuda else _STEP
    for start in range(0, count, step):
        part = indices[:, start : start + step]
        corners = tables.rows.index_select(0, part.reshape(-1)).view(4, part.shape[1], -1)
        torch.amax(corners, dim=0, out=pooled[start : start + step])
    return pooled.view(-1, POOLED_SIDE, POOLED_SIDE, pooled.shape[1]).permute(0, 3, 1, 2)
