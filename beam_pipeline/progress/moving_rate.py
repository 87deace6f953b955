"""How fast something goes on now, and how long the rest will take."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_WINDOW_SECONDS = 60.0
_FEWEST = 8  # samples that stay, however old: of a slow network


class MovingRate:
    """The rate over the last minute, or the last few steps where they take longer.

    The first step only starts the clock: what comes before it, loading the network for one, is no part of the rate.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()
        self._first: tuple[float, int] | None = None

    def update(self, done: int) -> None:
        """Take how much is done by now."""
        now = self._clock()
        if not done or (self._samples and done == self._samples[-1][1]):
            return
        if self._samples and done < self._samples[-1][1]:  # it began anew
            self._samples.clear()
            self._first = None
        self._samples.append((now, done))
        self._first = self._first or (now, done)
        while len(self._samples) > _FEWEST and self._samples[1][0] < now - _WINDOW_SECONDS:
            self._samples.popleft()

    @property
    def rate(self) -> float:
        """Units a second; 0 while it is not known. It falls while nothing comes for longer than the usual step."""
        if len(self._samples) < 2:
            return 0.0
        (begin, first), (end, last) = self._samples[0], self._samples[-1]
        step = (last - first) / (len(self._samples) - 1)
        now = self._clock()
        if end <= begin or now <= begin:
            return 0.0
        return min((last - first) / (end - begin), (last - first + step) / (now - begin))

    @property
    def mean_rate(self) -> float:
        """Units a second over the whole time, from the first step to the last; 0 while it is not known."""
        if self._first is None or self._samples[-1][0] <= self._first[0]:
            return 0.0
        return (self._samples[-1][1] - self._first[1]) / (self._samples[-1][0] - self._first[0])

    def seconds_left(self, total: int) -> float | None:
        """Return how long the rest will take, None while that is not known."""
        rate = self.rate
        if not rate:
            return None
        end, last = self._samples[-1]
        return max(0.0, (total - last) / rate - (self._clock() - end))
