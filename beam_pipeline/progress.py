"""What a program shows while it works: a bar on a terminal, a line every 30 seconds elsewhere."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from types import TracebackType
from typing import TextIO, TypeVar

from tqdm import tqdm

from transforms.shards import IMAGES_FAILED, IMAGES_WRITTEN

T = TypeVar("T")
BAR_SECONDS, LINE_SECONDS = 0.5, 30.0
_OF_KNOWN_SIZE = "{n_fmt} of {total_fmt}{unit}, {rate_noinv_fmt}, {remaining} left{postfix}"
_OF_UNKNOWN_SIZE = "{n_fmt}{unit}, {rate_noinv_fmt}{postfix}"


class Meter:
    """How much of something is done, at what rate, and how long the rest will take.

    Args:
        what: names the work; empty for none.
        unit: of what is counted; `B` is scaled to kB, MB and GB.
        stream: where it is shown.
    """

    def __init__(self, what: str, unit: str, stream: TextIO) -> None:
        self._what, self._unit, self._stream = what, unit, stream
        self._terminal = stream.isatty()
        self._shown = False
        self.seconds = BAR_SECONDS if self._terminal else LINE_SECONDS

    def line(self, done: int, total: int | None, rate: float, note: str = "") -> str:
        """Return what is shown.

        Args:
            done: how much is there, earlier attempts included.
            total: of the whole, None where that is not known.
            rate: units a second, 0 while it is not known.
            note: what else is to be said.
        """
        numbers = _OF_UNKNOWN_SIZE if total is None else _OF_KNOWN_SIZE
        bar = "{percentage:3.0f}%|{bar}| " if self._terminal and total is not None else ""
        return tqdm.format_meter(
            n=done,
            total=total,
            elapsed=0.0,
            # A text as wide as the terminal would wrap, and \r then returns to the wrong line.
            ncols=shutil.get_terminal_size().columns - 1 if self._terminal else None,
            prefix=f"{self._what}: " if self._what else "",
            ascii=True,
            unit=self._unit,
            unit_scale=self._unit == "B",
            rate=rate or None,
            bar_format="{desc}" + bar + numbers,
            postfix=note,
        )

    def show(self, done: int, total: int | None, rate: float, note: str = "") -> None:
        """Show it: over the last line on a terminal, as a new one elsewhere."""
        text = self.line(done, total, rate, note)
        self._stream.write(f"\r{text}\x1b[K" if self._terminal else f"{text}\n")
        self._stream.flush()
        self._shown = True

    def note(self, text: str) -> None:
        """Print a line of text above."""
        self._stream.write(f"\r\x1b[K{text}\n" if self._terminal else f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave the last state on a terminal, and the cursor below it."""
        if self._terminal and self._shown:
            self._stream.write("\n")
            self._stream.flush()


class RunProgress:
    """Shows a run's progress from a thread of its own for as long as it is entered.

    Args:
        total: images of the run.
        done_before: images that earlier attempts have published.
        counts: returns the run's counters.
        stream: where it is shown.
    """

    def __init__(self, total: int, done_before: int, counts: Callable[[], Mapping[str, int]], stream: TextIO) -> None:
        self._total, self._before, self._counts = total, done_before, counts
        self._meter = Meter("", " images", stream)
        self._terminal = stream.isatty()
        self._stop = threading.Event()
        self._began = self._latest = time.monotonic()
        self._images = 0
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> RunProgress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._terminal:
            self._meter.show(*self.state())
        self._meter.close()

    def note(self, text: str) -> None:
        """Print a line of text above; any thread may."""
        self._meter.note(text)

    def _work(self) -> None:
        while not self._stop.wait(self._meter.seconds):
            self._meter.show(*self.state())

    def state(self) -> tuple[int, int, float, str]:
        """Return images done, of how many, images a second, and failures and exports in words."""
        counts = dict(self._counts())
        failed = counts.pop(IMAGES_FAILED, 0)
        images = counts.pop(IMAGES_WRITTEN, 0) + failed
        # The rate is that of the images: the time that exports take must not slow it down.
        if images != self._images:
            self._images, self._latest = images, time.monotonic()
        seconds = self._latest - self._began
        exports = "".join(f", {name.replace('_', ' ')} {count}" for name, count in sorted(counts.items()) if count)
        # A runner that repeats a bundle counts its images twice.
        done = min(self._before + images, self._total)
        return done, self._total, images / seconds if seconds > 0 else 0.0, f"{failed} failed{exports}"


def show_count(items: Iterable[T], what: str, unit: str, stream: TextIO) -> Generator[T, None, None]:
    """Yield items, and show how many there were so far where they take long.

    Args:
        items: of unknown number.
        what: names the work.
        unit: of what is counted.
        stream: where it is shown.
    """
    meter = Meter(what, unit, stream)
    began = latest = time.monotonic()
    try:
        for number, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if now - latest >= meter.seconds:
                latest = now
                meter.show(number, None, number / (now - began))
    finally:
        meter.close()


class TransferProgress:
    """Called with the bytes done and the whole size; shows them now and then, and last at the end of the block.

    Args:
        what: names the work.
        stream: where it is shown.
        clock: returns seconds.
    """

    def __init__(self, what: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._meter, self._clock = Meter(what, "B", stream), clock
        self._began = self._shown = clock()
        self._first = 0
        self._latest: tuple[int, int | None] | None = None
        self._terminal = stream.isatty()
        self.note = self._meter.note

    def __enter__(self) -> TransferProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
            self._show()
        self._meter.close()

    def __call__(self, done: int, total: int | None) -> None:
        """Take what is done; show it if it is time."""
        if self._latest is None or done < self._first:
            self._first = done
        self._latest = done, total
        if self._clock() - self._shown >= self._meter.seconds:
            self._shown = self._clock()
            self._show()

    def _show(self) -> None:
        if self._latest is not None:
            seconds = self._clock() - self._began
            rate = (self._latest[0] - self._first) / seconds if seconds > 0 else 0.0
            self._meter.show(*self._latest, rate)
