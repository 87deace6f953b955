"""Overlaps of boxes, and pairs of rows that are each other's best. K, L: boxes of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def overlaps(boxes: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """Return the IoU of boxes (K, 4) with others (L, 4), x1, y1, x2, y2, ends included: (K, L)."""
    boxes, others = boxes.astype(np.float64), others.astype(np.float64)
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inter = (high - low + 1).clip(0).prod(axis=2)
    areas = [(corners[:, 2:] - corners[:, :2] + 1).prod(axis=1) for corners in (boxes, others)]
    return inter / np.maximum(areas[0][:, None] + areas[1][None, :] - inter, 1e-9)


def distances(
    products: NDArray[np.float64], squares: NDArray[np.float64], other_squares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the Euclidean distances of rows, (K, L), by their inner products (K, L) and squares (K,) and (L,)."""
    return np.sqrt((squares[:, None] + other_squares[None] - 2 * products).clip(0))


def mutual_best(scores: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and columns of a matrix (K, L) whose score is the best of its row and of its column."""
    if scores.size == 0:
        empty = np.zeros(0, np.int64)
        return empty, empty
    best_rows, columns = scores.argmax(axis=0), np.arange(scores.shape[1])
    mutual = scores.argmax(axis=1)[best_rows] == columns
    return best_rows[mutual], columns[mutual]


def shift(boxes: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """Return the largest difference of a corner between boxes (K, 4) and others (K, 4), pixels: (K,)."""
    return np.abs(boxes.astype(np.float64) - others).max(axis=1, initial=0)
