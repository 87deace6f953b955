"""The few items of a stream with the lowest or highest scores, in memory of their number."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Extremes(Generic[T]):
    """Keeps the items with the highest scores, of equal ones the earliest; negate scores for the lowest.

    Args:
        size: how many.
    """

    def __init__(self, size: int) -> None:
        self._size, self._count = size, 0
        self._heap: list[tuple[float, int, T]] = []

    def offer(self, score: float, make: Callable[[], T]) -> None:
        """Take an item, which is made only if it is kept."""
        self._count += 1
        entry_key = (score, -self._count)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, (*entry_key, make()))
        elif entry_key > self._heap[0][:2]:
            heapq.heapreplace(self._heap, (*entry_key, make()))

    def best(self) -> list[tuple[float, T]]:
        """Return the items with their scores, the highest first."""
        return [(score, item) for score, _, item in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]
