"""Places for the labels of boxes, so that labels cover each other as little as possible.

L: labels placed so far. A rectangle is (x1, y1, x2, y2) in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

Rectangle = tuple[float, float, float, float]
# Places along each edge of the box that are tried.
_STEPS = (0.0, 1.0, 0.5, 0.25, 0.75, 0.125, 0.875, 0.375, 0.625)
# Heights of a label that it may move away from the box.
_MOVES = 4


def place_labels(
    boxes: Sequence[Rectangle], sizes: Sequence[tuple[float, float]], width: float, height: float
) -> list[Rectangle]:
    """Place a label at each box, the first ones best.

    A label goes to the first free place: above the box, inside at its top, below it, inside at its bottom, beside it,
    a little away from it, within it; where none is free, to the place that is covered least.

    Args:
        boxes: of the image.
        sizes: width and height of each label.
        width: of the image in pixels.
        height: of the image in pixels.

    Returns:
        The rectangle of each label, inside the image where the label is not larger than it.
    """
    placed = np.empty((len(boxes), 4))  # (L, 4)
    for index, (box, (label_width, label_height)) in enumerate(zip(boxes, sizes, strict=True)):
        least = np.inf
        for left, top in _corners(box, label_width, label_height):
            x = max(0.0, min(left, width - label_width))
            y = max(0.0, min(top, height - label_height))
            covered = _overlap((x, y, x + label_width, y + label_height), placed[:index])
            if covered < least:
                least, placed[index] = covered, (x, y, x + label_width, y + label_height)
            if covered == 0:
                break
    return [(float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in placed]


def _corners(box: Rectangle, width: float, height: float) -> Iterator[tuple[float, float]]:
    """Yield the upper left corners of the places for a label, the best first."""
    x1, y1, x2, y2 = box
    for top in (y1 - height, y1, y2, y2 - height):
        yield from ((x1 + step * (x2 - x1 - width), top) for step in _STEPS)
    for left in (x1 - width, x2):
        yield from ((left, y1 + step * (y2 - y1 - height)) for step in _STEPS)
    for away in range(1, _MOVES + 1):
        yield from ((x1, y1 + away * height), (x1, y1 - away * height))
    for down in _STEPS:
        yield from ((x1 + step * (x2 - x1 - width), y1 + down * (y2 - y1 - height)) for step in _STEPS)


def _overlap(label: Rectangle, placed: np.ndarray) -> float:
    """Return the area of a label that the placed ones (L, 4) cover, counted once for each."""
    x1, y1, x2, y2 = label
    widths = np.minimum(x2, placed[:, 2]) - np.maximum(x1, placed[:, 0])
    heights = np.minimum(y2, placed[:, 3]) - np.maximum(y1, placed[:, 1])
    return float((widths.clip(0) * heights.clip(0)).sum())
