"""Selection of the regions that an image keeps: the confidence and counting rules of the original's `generate_tsv.py`.

B: images; R: regions; C: classes without background; N: classes of all images that have a candidate; K: kept regions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from region_features.detector.network.nms import float32_threshold, overlaps
from region_features.records.settings import SelectionRule

# Candidate counts of the first attempts, as multiples of `minimum`.
_FIRST_ATTEMPTS = (3, 6)


def max_confidence(boxes: Tensor, scores: Tensor, threshold: float, floors: Tensor) -> Tensor:
    """Return each region's best score among the classes whose suppression it survives, if above its image's floor.

    A region is only ever removed by one with a better score in the same class, so scores up to the floor cannot change
    the result for those above it, and are left out. The walk goes down the ranks: at rank r every class takes its r-th
    best region and, if that still stands, removes the regions that it overlaps.

    Args:
        boxes: float32 (B, R, 4), pixels of the original image.
        scores: float32 (B, R, C), class probabilities without background; 0 for padding.
        threshold: IoU from which a better region of the same class removes one.
        floors: float32 (B,), at least 0.

    Returns:
        float32 (B, R); 0 for a region whose best such score is not above its image's floor.
    """
    by_class = scores.transpose(1, 2)  # (B, C, R)
    counts = (by_class > floors[:, None, None]).sum(dim=2)
    image, row = counts.nonzero(as_tuple=True)  # (N,) each
    confidence = scores.new_zeros(scores.shape[:2])
    if len(image) == 0:
        return confidence
    # As in the original, sorted ascending and reversed: of equal scores the later region comes first.
    values, order = by_class[image, row].sort(dim=1, stable=True)
    depth = int(counts.max())
    values, order = values.flip(1)[:, :depth], order.flip(1)[:, :depth]  # (N, depth)
    conflicts = overlaps(boxes, boxes) >= float32_threshold(threshold)  # (B, R, R)
    removed = torch.zeros(len(image), boxes.shape[1], dtype=torch.bool, device=boxes.device)
    ranks, above = order.t().contiguous(), (values > floors[image, None]).t().contiguous()
    standing = torch.empty_like(above)
    for rank, region in enumerate(ranks):
        alive = above[rank] & ~removed.gather(1, region[:, None])[:, 0]
        standing[rank] = alive
        removed |= conflicts[image, region] & alive[:, None]
    kept = torch.where(standing.t(), values, 0)
    place = image[:, None] * boxes.shape[1] + order
    return confidence.view(-1).scatter_reduce_(0, place.reshape(-1), kept.reshape(-1), "amax").view_as(confidence)


def select(confidence: NDArray[np.float32], selection: SelectionRule) -> NDArray[np.int64]:
    """Select the regions over the threshold, in proposal order, if their number is within the rule's range.

    If fewer than `minimum` are over the threshold, select the `minimum` best, best first; if more than `maximum`, the
    `maximum` best, best first.

    Args:
        confidence: (R,).
        selection: the rule's numbers.

    Returns:
        Indices: int64 (K,), K at most R.
    """
    over = np.flatnonzero(confidence.astype(np.float64) >= selection.threshold)
    if selection.minimum <= len(over) <= selection.maximum:
        return over
    count = selection.minimum if len(over) < selection.minimum else selection.maximum
    return np.argsort(confidence, kind="stable")[::-1][:count].copy()


def _floors(best: Tensor, counts: Sequence[int], candidates: int, threshold: float) -> list[float]:
    """Return for each image the score that about `candidates` regions reach, at least 0 and below the threshold."""
    ordered = best.sort(dim=1, descending=True).values
    below = float(np.nextafter(np.float32(threshold), np.float32(-1)))
    return [
        max(0.0, min(float(row[candidates - 1]), below)) if candidates <= count else 0.0
        for row, count in zip(ordered.cpu(), counts, strict=True)
    ]


def choose_regions(
    boxes: Sequence[Tensor], scores: Sequence[Tensor], threshold: float, selection: SelectionRule
) -> list[NDArray[np.int64]]:
    """Choose the regions that each image keeps.

    The result is that of all scores of all classes. The best scores decide it for most images; only for the others is
    the suppression repeated with more of them.

    Args:
        boxes: of each image, float32 (R, 4), pixels of the original image; R differs from image to image.
        scores: of each image, float32 (R, C), class probabilities without background.
        threshold: IoU from which a better region of the same class removes one.
        selection: how many regions an image keeps, and from which confidence on.

    Returns:
        Of each image, indices int64 (K,), see `select`.
    """
    counts = [len(regions) for regions in boxes]
    chosen: dict[int, NDArray[np.int64]] = {}
    for candidates in (*(factor * selection.minimum for factor in _FIRST_ATTEMPTS), max(counts, default=0) + 1):
        pending = [index for index in range(len(counts)) if index not in chosen]
        if not pending:
            break
        padded_boxes = pad_sequence([boxes[index] for index in pending], batch_first=True)
        padded_scores = pad_sequence([scores[index] for index in pending], batch_first=True)
        floors = _floors(
            padded_scores.amax(dim=2), [counts[index] for index in pending], candidates, selection.threshold
        )
        confidences = max_confidence(padded_boxes, padded_scores, threshold, padded_scores.new_tensor(floors))
        for index, confidence, floor in zip(pending, confidences.cpu().numpy(), floors, strict=True):
            confidence = confidence[: counts[index]]
            # Everything that the rule compares lies above the floor, or nothing was left out.
            if floor == 0 or np.count_nonzero(confidence) >= selection.minimum:
                chosen[index] = select(confidence, selection)
    return [chosen[index] for index in range(len(counts))]
