"""Histograms of a stream, whose bins are fixed before it begins."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Histogram:
    """Counts values by bin; those outside the edges count in the first and last bin.

    Args:
        edges: ascending, one more than there are bins.
    """

    def __init__(self, edges: ArrayLike) -> None:
        self.edges: NDArray[np.float64] = np.asarray(edges, np.float64)
        self.counts = np.zeros(len(self.edges) - 1, np.int64)

    def add(self, values: ArrayLike) -> None:
        """Count values of any shape."""
        bins = np.searchsorted(self.edges, np.ravel(values), side="right") - 1
        self.counts += np.bincount(bins.clip(0, len(self.counts) - 1), minlength=len(self.counts))

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    @property
    def median(self) -> float:
        """Middle of the bin that holds the median; 0 where there are no values."""
        if not self.total:
            return 0.0
        bin_number = int(np.searchsorted(self.counts.cumsum(), self.total / 2))
        return float(self.edges[bin_number : bin_number + 2].mean())

    def occupied(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return edges and counts from the first bin that holds values to the last; one empty bin if none does."""
        filled = np.flatnonzero(self.counts)
        first, last = (int(filled[0]), int(filled[-1])) if len(filled) else (0, 0)
        return self.edges[first : last + 2], self.counts[first : last + 1]


def whole_numbers(most: int) -> Histogram:
    """Count whole numbers from 0; larger ones than `most` count as it."""
    return Histogram(np.arange(most + 2) - 0.5)


def shares(bins: int) -> Histogram:
    """Count numbers from 0 to 1."""
    return Histogram(np.linspace(0, 1, bins + 1))


def logarithmic(low: float, high: float, bins_a_decade: int) -> Histogram:
    """Count positive numbers by bins of equal ratio, from 10**low to 10**high."""
    return Histogram(np.logspace(low, high, round((high - low) * bins_a_decade) + 1))
