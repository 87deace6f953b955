"""What a program shows while it works, phase by phase: its images, its files, its downloads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from types import TracebackType
from typing import TypeVar

from beam_pipeline.progress.console import Console
from beam_pipeline.progress.meter import BAR_SECONDS, Meter, State
from beam_pipeline.progress.moving_rate import MovingRate
from transforms.metrics import IMAGES_DETECTED
from transforms.shards import IMAGES_FAILED, IMAGES_WRITTEN
from transforms.tasks import Task, newest_task

T = TypeVar("T")
IMAGES, STARTING = " images", "starting"


class RunProgress:
    """Shows a run's phases from a thread of its own for as long as it is entered.

    Args:
        what: names what is done with the images.
        total: images of the run.
        done_before: images that earlier attempts have published.
        counts: returns the run's counters.
        poll_seconds: how often it is asked for them.
        target: where it is shown; None for the console of this process.
    """

    def __init__(
        self,
        what: str,
        total: int,
        done_before: int,
        counts: Callable[[], Mapping[str, int]],
        poll_seconds: float = BAR_SECONDS,
        target: Console | None = None,
    ) -> None:
        self._what, self._total, self._before, self._counts = what, total, done_before, counts
        self._seconds, self._target = poll_seconds, target
        self._rate, self._task_rate = MovingRate(), MovingRate()
        self._meter: Meter | None = None
        self._state = State(0)
        self._has_begun = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    @property
    def images_per_second(self) -> float:
        """The rate of the images from the first to the last; 0 where it is not known."""
        return self._rate.mean_rate

    def __enter__(self) -> RunProgress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.poll()  # a short run has ended before its first
        if self._meter:
            self._meter.close(self._state)

    def _work(self) -> None:
        while not self._stop.wait(self._seconds):
            self.poll()

    def poll(self) -> None:
        """Look what the run is at, and show it where it is time."""
        images = self.images()
        task = newest_task()
        now = self._meter.what if self._meter else STARTING
        if task is None and images.done == images.total and now not in (self._what, STARTING):
            return  # between two tasks, after the images
        self._has_begun |= task is not None or images.done > self._before
        name, unit = (task.what, task.unit) if task else (self._what, IMAGES) if self._has_begun else (STARTING, "")
        if self._meter and self._meter.what != name:
            self._meter.close(images if self._meter.what == self._what else self._ended())
            self._meter = None
        if self._meter is None:
            self._task_rate = MovingRate()
            self._meter = Meter(name, unit, self._target)
        self._state = self._state_of(task) if task else images if self._has_begun else State(0)
        self._meter.offer(self._state)

    def _ended(self) -> State:
        """A task that is over was done as a whole."""
        whole = self._state.total
        return self._state._replace(done=self._state.done if whole is None else whole, seconds_left=None)

    def _state_of(self, task: Task) -> State:
        # An export that reads the shards twice counts their bytes twice.
        done = task.done if task.total is None else min(task.done, task.total)
        self._task_rate.update(done)
        left = self._task_rate.seconds_left(task.total) if task.total else None
        return State(done, task.total, self._task_rate.rate, left)

    def images(self) -> State:
        """Return how far the images are, with failures, and what remote workers report of exports, in words."""
        counts = dict(self._counts())
        failed = counts.pop(IMAGES_FAILED, 0)
        # An image counts once it is detected; written are those of a batch together.
        images = max(counts.pop(IMAGES_WRITTEN, 0) + failed, counts.pop(IMAGES_DETECTED, 0))
        self._rate.update(images)
        others = "".join(f", {name.replace('_', ' ')} {count}" for name, count in sorted(counts.items()) if count)
        # A runner that repeats a bundle counts its images twice.
        done = min(self._before + images, self._total)
        left = self._rate.seconds_left(self._total - self._before)
        return State(done, self._total, self._rate.rate, left, f", {failed} failed{others}" if failed else others)


def show_count(
    items: Iterable[T], what: str, unit: str, total: int | None = None, target: Console | None = None
) -> Generator[T, None, None]:
    """Yield items, and show how many there were so far where they take long.

    Args:
        items: to be counted.
        what: names the work.
        unit: of what is counted.
        total: how many there will be, None where that is not known.
        target: where it is shown; None for the console of this process.
    """
    meter, rate = Meter(what, unit, target), MovingRate()
    number, latest = 0, time.monotonic()
    try:
        for number, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if now - latest >= BAR_SECONDS:
                latest = now
                rate.update(number)
                meter.offer(State(number, total, rate.rate, rate.seconds_left(total) if total else None))
    finally:
        meter.close(State(number, total, rate.rate))


class TransferProgress:
    """Called with the bytes done and the whole size; shows them now and then, and last at the end of the block.

    Args:
        what: names the work.
        target: where it is shown; None for the console of this process.
        clock: returns seconds.
    """

    def __init__(self, what: str, target: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._meter, self._rate = Meter(what, "B", target, clock), MovingRate(clock)
        self._state = State(0)

    def __enter__(self) -> TransferProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._meter.close(self._state)

    def __call__(self, done: int, total: int | None) -> None:
        """Take what is done; show it if it is time."""
        self._rate.update(done)
        self._state = State(done, total, self._rate.rate, self._rate.seconds_left(total) if total else None)
        self._meter.offer(self._state)
