"""Which regions an image keeps: the confidence and counting rules of the original's `generate_tsv.py`.

R: regions; C: classes without background; K: kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from transforms.detector.nms import kept_by_class
from transforms.records.prepared_image import BoxSettings


def max_confidence(boxes: NDArray[np.float32], scores: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """The best score of each region among the classes whose suppression it survives; 0 where it survives none.

    Args:
        boxes: float32 (R, 4), pixels of the original image.
        scores: float32 (R, C), class probabilities without background.
        threshold: overlap from which a better region of the same class removes one.

    Returns:
        float64 (R,).
    """
    kept = kept_by_class(boxes, scores, threshold)
    return np.where(kept, scores.T, np.float32(0)).max(axis=0, initial=np.float32(0)).astype(np.float64)


def select(confidence: NDArray[np.float64], boxes: BoxSettings) -> NDArray[np.int64]:
    """The regions to keep: those over the threshold, in proposal order, or the most confident ones.

    Fewer than `minimum` over the threshold: the `minimum` best, best first. More than `maximum`: the `maximum` best,
    best first.

    Args:
        confidence: float64 (R,).
        boxes: the rule's numbers.

    Returns:
        Indices: int64 (K,), K at most R.
    """
    over = np.flatnonzero(confidence >= boxes.threshold)
    if boxes.minimum <= len(over) <= boxes.maximum:
        return over
    count = boxes.minimum if len(over) < boxes.minimum else boxes.maximum
    return np.argsort(confidence, kind="stable")[::-1][:count]
