"""Non-maximum suppression as the original's `cpu_nms` does it: ends included, float32 overlap, double threshold.

The same tensor operations run on the CPU and on a GPU, each rounded as IEEE float32, so both keep the same boxes.

B: images; N: boxes in descending order of score; S: boxes of a block; K: kept boxes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Candidates that meet each other at once: more take fewer steps, and a GPU waits between steps.
_BLOCK, _CUDA_BLOCK = 128, 1024


def float32_threshold(threshold: float) -> float:
    """The smallest float32 that is not below the double `threshold`: comparing with it is comparing in double."""
    rounded = np.float32(threshold)
    return float(rounded if float(rounded) >= threshold else np.nextafter(rounded, np.float32(np.inf)))


def areas(boxes: Tensor) -> Tensor:
    """Pixels of boxes (..., 4), ends included: float32 (...)."""
    return (boxes[..., 2] - boxes[..., 0] + 1) * (boxes[..., 3] - boxes[..., 1] + 1)


def overlaps(one: Tensor, two: Tensor) -> Tensor:
    """Intersection over union of every box of `one` (B, M, 4) with every box of `two` (B, N, 4): float32 (B, M, N)."""
    first, second = one[:, :, None], two[:, None, :]
    width = torch.minimum(first[..., 2], second[..., 2]).sub_(torch.maximum(first[..., 0], second[..., 0])).add_(1)
    height = torch.minimum(first[..., 3], second[..., 3]).sub_(torch.maximum(first[..., 1], second[..., 1])).add_(1)
    inter = width.clamp_(min=0).mul_(height.clamp_(min=0))
    union = (areas(one)[:, :, None] + areas(two)[:, None, :]).sub_(inter)
    return inter.div_(union)


def _walk(conflicts: Tensor, standing: Tensor) -> Tensor:
    """The greedy walk down each row of boxes: a box is kept where it conflicts with no better kept one.

    Each round settles at least the next box of the walk, most rounds many; settled boxes never change again, so the
    answer is there when a round changes nothing.

    Args:
        conflicts: bool (B, S, S), [b, j, i] where box j is better than i and removes it.
        standing: bool (B, S), the boxes that take part.

    Returns:
        bool (B, S).
    """
    kept = standing
    while True:
        after = standing & ~(conflicts & kept[:, :, None]).any(dim=1)
        if torch.equal(after, kept):
            return kept
        kept = after


def compact(boxes: Tensor, chosen: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The chosen boxes of each row, in order, moved to the front.

    Args:
        boxes: (B, N, 4).
        chosen: bool (B, N).
        width: how many columns to give, at least the largest number of chosen ones and at most N.

    Returns:
        Boxes (B, width, 4) and which of them are chosen ones, bool (B, width).
    """
    order = chosen.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, :width]
    return boxes.gather(1, order[:, :, None].expand(-1, -1, 4)), chosen.gather(1, order)


def suppress(boxes: Tensor, valid: Tensor, threshold: float, limit: int, block: int | None = None) -> Tensor:
    """Greedy suppression of boxes that are sorted by score, stopping at `limit` kept ones an image.

    Blocks of candidates meet all kept boxes at once; the greedy walk then runs within the block.

    Args:
        boxes: float32 (B, N, 4), best first.
        valid: bool (B, N), the boxes that take part.
        threshold: a box goes where its overlap with a kept one is at least this.
        limit: how many to keep at most.
        block: candidates a step, None for what suits the device; changes the speed only.

    Returns:
        Which boxes are kept: bool (B, N).
    """
    least = float32_threshold(threshold)
    step = block or (_CUDA_BLOCK if boxes.is_cuda else _BLOCK)
    kept = torch.zeros_like(valid)
    earlier, present = boxes[:, :0], valid[:, :0]
    for start in range(0, boxes.shape[1], step):
        part, standing = boxes[:, start : start + step], valid[:, start : start + step]
        if earlier.shape[1]:
            standing = standing & ~((overlaps(earlier, part) >= least) & present[:, :, None]).any(dim=1)
        found = _walk((overlaps(part, part) >= least).triu(1), standing)
        kept[:, start : start + step] = found
        counts, new = torch.stack([kept.sum(dim=1), found.sum(dim=1)]).tolist()
        if min(counts) >= limit:
            break
        more, real = compact(part, found, max(new))
        earlier, present = torch.cat([earlier, more], dim=1), torch.cat([present, real], dim=1)
    return kept & (kept.cumsum(dim=1) <= limit)
