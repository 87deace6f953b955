"""Non-maximum suppression as in the original's `cpu_nms`: ends included, float32 overlap, double threshold.

The same tensor operations run on the CPU and on a GPU, each rounded as IEEE float32, so both keep the same boxes.

B: images; N: boxes in descending order of score; S: boxes of a block.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Candidates of a step: larger blocks take fewer steps, and a GPU waits between steps.
_BLOCK, _CUDA_BLOCK = 128, 1024


def float32_threshold(threshold: float) -> float:
    """Return the smallest float32 not below `threshold`: comparing float32 with it is comparing in double."""
    rounded = np.float32(threshold)
    return float(rounded if float(rounded) >= threshold else np.nextafter(rounded, np.float32(np.inf)))


def areas(boxes: Tensor) -> Tensor:
    """Return the areas of boxes (..., 4) in pixels, ends included: float32 (...)."""
    return (boxes[..., 2] - boxes[..., 0] + 1) * (boxes[..., 3] - boxes[..., 1] + 1)


def overlaps(one: Tensor, two: Tensor) -> Tensor:
    """Return the IoU of every box of `one` (B, M, 4) with every box of `two` (B, N, 4): float32 (B, M, N)."""
    first, second = one[:, :, None], two[:, None, :]
    width = torch.minimum(first[..., 2], second[..., 2]).sub_(torch.maximum(first[..., 0], second[..., 0])).add_(1)
    height = torch.minimum(first[..., 3], second[..., 3]).sub_(torch.maximum(first[..., 1], second[..., 1])).add_(1)
    inter = width.clamp_(min=0).mul_(height.clamp_(min=0))
    union = (areas(one)[:, :, None] + areas(two)[:, None, :]).sub_(inter)
    return inter.div_(union)


def _walk(conflicts: Tensor, standing: Tensor) -> Tensor:
    """Walk greedily down each row of boxes: keep a box unless it conflicts with a better kept one.

    Each round settles at least the next box of the walk, most rounds many. Settled boxes never change again, so the
    walk ends when a round changes nothing.

    Args:
        conflicts: bool (B, S, S), true at [b, j, i] if box j is better than i and overlaps it too much.
        standing: bool (B, S), the boxes that take part.

    Returns:
        The kept boxes: bool (B, S).
    """
    kept = standing
    while True:
        after = standing & ~(conflicts & kept[:, :, None]).any(dim=1)
        if torch.equal(after, kept):
            return kept
        kept = after


def compact(boxes: Tensor, chosen: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Move the chosen boxes of each row to the front, in order.

    Args:
        boxes: (B, N, 4).
        chosen: bool (B, N).
        width: columns of the result, at least the largest number of chosen boxes of a row and at most N.

    Returns:
        Boxes (B, width, 4) and which of them are chosen, bool (B, width).
    """
    order = chosen.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, :width]
    return boxes.gather(1, order[:, :, None].expand(-1, -1, 4)), chosen.gather(1, order)


def suppress(boxes: Tensor, valid: Tensor, threshold: float, limit: int, block: int | None = None) -> Tensor:
    """Suppress boxes greedily until `limit` boxes of every image are kept.

    Each block of candidates is compared with all kept boxes at once; the greedy walk then runs within the block.

    Args:
        boxes: float32 (B, N, 4), best first.
        valid: bool (B, N), the boxes that take part.
        threshold: IoU with a kept box from which a box is removed.
        limit: largest number of kept boxes of an image.
        block: candidates of a step, None for a size that suits the device; changes the speed only.

    Returns:
        The kept boxes: bool (B, N).
    """
    least = float32_threshold(threshold)
    step = block or (_CUDA_BLOCK if boxes.is_cuda else _BLOCK)
    kept = torch.zeros_like(valid)
    earlier, present = boxes[:, :0], valid[:, :0]
    for start in range(0, boxes.shape[1], step):
        part, standing = boxes[:, start : start + step], valid[:, start : start + step]
        if earlier.shape[1]:
            standing = standing & ~((overlaps(earlier, part) >= least) & present[:, :, None]).any(dim=1)
        survivors = _walk((overlaps(part, part) >= least).triu(1), standing)
        kept[:, start : start + step] = survivors
        counts, new = torch.stack([kept.sum(dim=1), survivors.sum(dim=1)]).tolist()
        if min(counts) >= limit:
            break
        added, real = compact(part, survivors, max(new))
        earlier, present = torch.cat([earlier, added], dim=1), torch.cat([present, real], dim=1)
    return kept & (kept.cumsum(dim=1) <= limit)
