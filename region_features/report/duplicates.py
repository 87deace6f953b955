"""Pairs of images whose mean features are nearly the same, in bounded memory.

N: images that are compared; D: feature width.

The mean features, of length 1, are projected onto 32 random directions, which keeps distances up to about a quarter,
small ones as small (Johnson and Lindenstrauss 1984). Pairs are looked for among neighbours in the orders along random
directions (the sorted neighbourhood method, Hernandez and Stolfo 1995): equal images are neighbours in each of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Of more images so many, at most, are compared: 26 MB.
MAX_IMAGES = 1 << 17
_WIDTH = 32
_ORDERS, _NEIGHBOURS = 8, 8
_CANDIDATES = 64  # of an order and a distance in it
_CHUNK = 4096


class Pair(NamedTuple):
    """Two images by their numbers in the order in which they came, and the cosine of their mean features."""

    first: int
    second: int
    cosine: float


class NearDuplicates:
    """Takes the mean features of images one by one."""

    def __init__(self, max_images: int = MAX_IMAGES) -> None:
        self._max_images = max_images
        self._projection: NDArray[np.float32] | None = None
        self._points = np.empty((_CHUNK, _WIDTH), np.float32)
        self._numbers = np.empty(_CHUNK, np.int64)
        self._ranks = np.empty(_CHUNK, np.uint64)
        self._count, self._stride = 0, 1

    def add(self, number: int, rank: int, mean: NDArray[np.float32]) -> None:
        """Take an image.

        Args:
            number: of the image.
            rank: see `sample_rank`; decides whether it is compared where there are too many.
            mean: its boxes' features, averaged, float32 (D,); another width than the first's is left out.
        """
        if self._projection is None:
            normal = np.random.default_rng(0).standard_normal((len(mean), _WIDTH), np.float32)
            self._projection = normal / np.float32(np.sqrt(_WIDTH))
        norm = float(np.linalg.norm(mean))
        if rank % self._stride or len(mean) != len(self._projection) or not norm:
            return
        if self._count == len(self._points):
            self._grow_or_thin()
            if rank % self._stride:
                return
        self._points[self._count] = (mean / np.float32(norm)) @ self._projection
        self._numbers[self._count], self._ranks[self._count] = number, rank
        self._count += 1

    def _grow_or_thin(self) -> None:
        """Double the room, or where that is not allowed leave out every other image."""
        while self._count >= self._max_images:
            self._stride *= 2
            kept = np.flatnonzero(self._ranks[: self._count] % np.uint64(self._stride) == 0)
            for array in (self._points, self._numbers, self._ranks):
                array[: len(kept)] = array[kept]
            self._count = len(kept)
        if self._count == len(self._points):
            room = min(2 * self._count, self._max_images)
            self._points = np.resize(self._points, (room, _WIDTH))
            self._numbers, self._ranks = np.resize(self._numbers, room), np.resize(self._ranks, room)

    def nearest(self, pairs: int) -> list[Pair]:
        """Return the most alike pairs that share no image, the most alike first."""
        points, rng = self._points[: self._count], np.random.default_rng(1)
        found: dict[tuple[int, int], float] = {}
        for _ in range(_ORDERS):
            order = np.argsort(points @ rng.standard_normal(_WIDTH).astype(np.float32), kind="stable")
            for lag in range(1, min(_NEIGHBOURS + 1, self._count)):
                distances = np.square(points[order[:-lag]] - points[order[lag:]]).sum(axis=1)
                for place in np.argsort(distances, kind="stable")[:_CANDIDATES].tolist():
                    one, other = sorted((int(order[place]), int(order[place + lag])))
                    found[one, other] = float(distances[place])
        chosen: list[Pair] = []
        used: set[int] = set()
        for (one, other), distance in sorted(found.items(), key=lambda entry: (entry[1], entry[0])):
            if len(chosen) == pairs:
                break
            if not {one, other} & used:
                used |= {one, other}
                cosine = max(-1.0, 1 - distance / 2)
                chosen.append(Pair(int(self._numbers[one]), int(self._numbers[other]), cosine))
        return chosen
