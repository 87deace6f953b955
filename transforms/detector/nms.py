"""Non-maximum suppression as the original's `cpu_nms` does it: ends included, float32 overlap, double threshold.

N: boxes in descending order of score; R: regions; C: classes; W: 64-bit words that hold R bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ONE = np.float32(1)


def float32_threshold(threshold: float) -> np.float32:
    """The smallest float32 that is not below the double `threshold`: comparing with it is comparing in double."""
    rounded = np.float32(threshold)
    return rounded if float(rounded) >= threshold else np.nextafter(rounded, np.float32(np.inf))


def areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixels of boxes (N, 4), ends included: float32 (N,)."""
    return (boxes[:, 2] - boxes[:, 0] + ONE) * (boxes[:, 3] - boxes[:, 1] + ONE)


def overlaps(
    one: NDArray[np.float32], one_areas: NDArray[np.float32], two: NDArray[np.float32], two_areas: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Intersection over union of every box of `one` (M, 4) with every box of `two` (N, 4): float32 (M, N)."""
    left = np.maximum(one[:, None, 0], two[None, :, 0])
    top = np.maximum(one[:, None, 1], two[None, :, 1])
    width = np.minimum(one[:, None, 2], two[None, :, 2])
    height = np.minimum(one[:, None, 3], two[None, :, 3])
    width -= left
    width += ONE
    height -= top
    height += ONE
    inter = np.maximum(width, np.float32(0), out=width)
    inter *= np.maximum(height, np.float32(0), out=height)
    union = one_areas[:, None] + two_areas[None, :]
    union -= inter
    return np.divide(inter, union, out=union)


def suppress(boxes: NDArray[np.float32], threshold: float, limit: int, block: int = 128) -> NDArray[np.int64]:
    """Greedy suppression of boxes that are sorted by score, stopping at `limit` kept ones.

    Blocks of candidates meet all kept boxes at once; the greedy walk then runs within the block.

    Args:
        boxes: float32 (N, 4), best first.
        threshold: a box goes where its overlap with a kept one is at least this.
        limit: how many to keep at most.
        block: candidates a step; changes the speed only.

    Returns:
        Indices of the kept boxes, ascending: int64 (K,).
    """
    least = float32_threshold(threshold)
    sizes = areas(boxes)
    kept: list[int] = []
    for start in range(0, len(boxes), block):
        candidates = np.arange(start, min(start + block, len(boxes)))
        if kept:
            before = overlaps(boxes[kept], sizes[kept], boxes[candidates], sizes[candidates])
            candidates = candidates[~(before >= least).any(axis=0)]
        within = overlaps(boxes[candidates], sizes[candidates], boxes[candidates], sizes[candidates]) >= least
        gone = np.zeros(len(candidates), dtype=bool)
        for row, candidate in enumerate(candidates.tolist()):
            if not gone[row]:
                kept.append(candidate)
                if len(kept) == limit:
                    return np.array(kept, dtype=np.int64)
                gone |= within[row]
    return np.array(kept, dtype=np.int64)


def _packed(matrix: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Rows of bits (R, R) as 64-bit words (R, W)."""
    width = -(-matrix.shape[1] // 64) * 8
    packed = np.zeros((len(matrix), width), dtype=np.uint8)
    bits = np.packbits(matrix, axis=1, bitorder="little")
    packed[:, : bits.shape[1]] = bits
    return packed.view("<u8")


def kept_by_class(boxes: NDArray[np.float32], scores: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Which regions survive suppression within each class, all classes walked together.

    The overlaps are the same for every class, so they are computed once, as bits. The walk goes down the ranks: at rank
    r every class looks at its r-th best region and, where that still stands, removes the ones it overlaps.

    Args:
        boxes: float32 (R, 4).
        scores: float32 (R, C).
        threshold: a region goes where its overlap with a better kept one is at least this.

    Returns:
        bool (C, R).
    """
    sizes = areas(boxes)
    victims = _packed(overlaps(boxes, sizes, boxes, sizes) >= float32_threshold(threshold))  # (R, W)
    # The original sorts ascending and turns round: of equal scores the later region comes first.
    order = np.argsort(scores.T, axis=1, kind="stable")[:, ::-1]  # (C, R)
    ranks = np.ascontiguousarray(order.T)  # (R, C)
    word, bit = ranks >> 6, (ranks & 63).astype(np.uint64)
    classes = np.arange(scores.shape[1])
    gone = np.zeros((scores.shape[1], victims.shape[1]), dtype=np.uint64)  # (C, W)
    standing = np.empty(ranks.shape, dtype=bool)
    for rank, region in enumerate(ranks):
        alive = ((gone[classes, word[rank]] >> bit[rank]) & np.uint64(1)) == 0
        standing[rank] = alive
        gone |= victims[region] * alive[:, None]
    kept = np.empty(order.shape, dtype=bool)
    np.put_along_axis(kept, order, standing.T, axis=1)
    return kept
