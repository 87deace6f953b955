"""Which regions an image keeps: the confidence and counting rules of the original's `generate_tsv.py`.

B: images; R: regions; C: classes without background; N: classes of all images that have a candidate; K: kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from region_features.detector.network.nms import float32_threshold, overlaps
from region_features.records.settings import SelectionRule

# The first tries look at the scores that about so many times the wanted regions reach.
_GENEROSITY = (3, 6)


def max_confidence(boxes: Tensor, scores: Tensor, threshold: float, floors: Tensor) -> Tensor:
    """The best score of each region among the classes whose suppression it survives, where that is over the floor.

    A region is only ever removed by one with a better score in the same class, so scores under the floor decide
    nothing about those over it, and are left out. The walk goes down the ranks: at rank r every class looks at its r-th
    best region and, where that still stands, removes the ones it overlaps.

    Args:
        boxes: float32 (B, R, 4), pixels of the original image.
        scores: float32 (B, R, C), class probabilities without background; 0 for what is no region.
        threshold: overlap from which a better region of the same class removes one.
        floors: float32 (B,), at least 0.

    Returns:
        float32 (B, R); 0 for a region whose best such score is not over its image's floor.
    """
    by_class = scores.transpose(1, 2)  # (B, C, R)
    counts = (by_class > floors[:, None, None]).sum(dim=2)
    image, row = counts.nonzero(as_tuple=True)  # (N,) each
    confidence = scores.new_zeros(scores.shape[:2])
    if len(image) == 0:
        return confidence
    # The original sorts ascending and turns round: of equal scores the later region comes first.
    values, order = by_class[image, row].sort(dim=1, stable=True)
    depth = int(counts.max())
    values, order = values.flip(1)[:, :depth], order.flip(1)[:, :depth]  # (N, depth)
    conflicts = overlaps(boxes, boxes) >= float32_threshold(threshold)  # (B, R, R)
    gone = torch.zeros(len(image), boxes.shape[1], dtype=torch.bool, device=boxes.device)
    ranks, over = order.t().contiguous(), (values > floors[image, None]).t().contiguous()
    standing = torch.empty_like(over)
    for rank, region in enumerate(ranks):
        alive = over[rank] & ~gone.gather(1, region[:, None])[:, 0]
        standing[rank] = alive
        gone |= conflicts[image, region] & alive[:, None]
    kept = torch.where(standing.t(), values, 0)
    place = image[:, None] * boxes.shape[1] + order
    return confidence.view(-1).scatter_reduce_(0, place.reshape(-1), kept.reshape(-1), "amax").view_as(confidence)


def select(confidence: NDArray[np.float32], boxes: SelectionRule) -> NDArray[np.int64]:
    """The regions to keep: those over the threshold, in proposal order, or the most confident ones.

    Fewer than `minimum` over the threshold: the `minimum` best, best first. More than `maximum`: the `maximum` best,
    best first.

    Args:
        confidence: (R,).
        boxes: the rule's numbers.

    Returns:
        Indices: int64 (K,), K at most R.
    """
    over = np.flatnonzero(confidence.astype(np.float64) >= boxes.threshold)
    if boxes.minimum <= len(over) <= boxes.maximum:
        return over
    count = boxes.minimum if len(over) < boxes.minimum else boxes.maximum
    return np.argsort(confidence, kind="stable")[::-1][:count].copy()


def _floors(best: Tensor, counts: Sequence[int], wanted: int, threshold: float) -> list[float]:
    """For each image the score that about `wanted` regions reach, at least 0 and under the threshold."""
    ordered = best.sort(dim=1, descending=True).values
    under = float(np.nextafter(np.float32(threshold), np.float32(-1)))
    return [
        max(0.0, min(float(row[wanted - 1]), under)) if wanted <= count else 0.0
        for row, count in zip(ordered.cpu(), counts, strict=True)
    ]


def choose_regions(
    boxes: Sequence[Tensor], scores: Sequence[Tensor], threshold: float, settings: SelectionRule
) -> list[NDArray[np.int64]]:
    """The regions that each image keeps; the same as from all scores of all classes, found from the best of them.

    Args:
        boxes: of each image, float32 (R, 4), pixels of the original image; R differs from image to image.
        scores: of each image, float32 (R, C), class probabilities without background.
        threshold: overlap from which a better region of the same class removes one.
        settings: how many regions an image keeps, and from which confidence on.

    Returns:
        Of each image, indices int64 (K,), see `select`.
    """
    counts = [len(one) for one in boxes]
    chosen: dict[int, NDArray[np.int64]] = {}
    for wanted in (*(factor * settings.minimum for factor in _GENEROSITY), max(counts, default=0) + 1):
        left = [index for index in range(len(counts)) if index not in chosen]
        if not left:
            break
        some_boxes = torch.nn.utils.rnn.pad_sequence([boxes[index] for index in left], batch_first=True)
        some_scores = torch.nn.utils.rnn.pad_sequence([scores[index] for index in left], batch_first=True)
        floors = _floors(some_scores.amax(dim=2), [counts[index] for index in left], wanted, settings.threshold)
        found = max_confidence(some_boxes, some_scores, threshold, some_scores.new_tensor(floors)).cpu().numpy()
        for index, confidence, floor in zip(left, found, floors, strict=True):
            confidence = confidence[: counts[index]]
            # All that the rule looks at lies over the floor, or nothing was left out.
            if floor == 0 or np.count_nonzero(confidence) >= settings.minimum:
                chosen[index] = select(confidence, settings)
    return [chosen[index] for index in range(len(counts))]
