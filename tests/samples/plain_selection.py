"""Suppression and selection as the original's loops do them, number by number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def plain_nms(boxes: NDArray[Any], threshold: float) -> list[int]:
    """Suppress boxes that are sorted by score."""
    one = np.float32(1)
    kept: list[int] = []
    for i, box in enumerate(boxes):
        for j in kept:
            other = boxes[j]
            width = max(np.float32(0), min(box[2], other[2]) - max(box[0], other[0]) + one)
            height = max(np.float32(0), min(box[3], other[3]) - max(box[1], other[1]) + one)
            inter = width * height
            area = (box[2] - box[0] + one) * (box[3] - box[1] + one)
            other_area = (other[2] - other[0] + one) * (other[3] - other[1] + one)
            if float(inter / (other_area + area - inter)) >= threshold:
                break
        else:
            kept.append(i)
    return kept


def plain_confidence(boxes: NDArray[Any], scores: NDArray[Any]) -> NDArray[np.float32]:
    """Compute each region's confidence by the loop over classes."""
    best = np.zeros(len(boxes), dtype=np.float32)
    for column in scores.T:
        order = np.argsort(column, kind="stable")[::-1]
        rows = order[plain_nms(boxes[order], 0.3)]
        best[rows] = np.maximum(best[rows], column[rows])
    return best


def plain_select(confidence: NDArray[np.float32], minimum: int, maximum: int, threshold: float) -> list[int]:
    """Select regions by the rule's words."""
    over = [index for index, score in enumerate(confidence) if float(score) >= threshold]
    best = sorted(range(len(confidence)), key=lambda index: (-float(confidence[index]), -index))
    if len(over) < minimum:
        return best[:minimum]
    return best[:maximum] if len(over) > maximum else over
