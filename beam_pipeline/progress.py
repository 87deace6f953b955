"""What a run shows while it works: a bar on a terminal, a line every 30 seconds elsewhere."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TextIO

from transforms.shards import IMAGES_FAILED, IMAGES_WRITTEN

_BAR_SECONDS = 0.5
_LINE_SECONDS = 30.0
_BAR_WIDTH = 24


def progress_line(done: int, total: int, failed: int, fresh: int, seconds: float, lmdb_records: int = 0) -> str:
    """One line: images done of total, images/s, time left, failures, and how far the LMDBs are.

    Args:
        done: images written or failed, those of earlier attempts included.
        total: images of the run.
        failed: images failed in this attempt.
        fresh: images of this attempt, for the rate.
        seconds: from the attempt's start to its latest image.
        lmdb_records: records written to LMDBs, 0 before they are begun.
    """
    rate = fresh / seconds if seconds > 0 else 0.0
    left = f"{_clock((total - done) / rate)} left" if rate > 0 else "-:-- left"
    lmdb = f", LMDB {lmdb_records} records" if lmdb_records else ""
    return f"{done}/{total} images, {rate:.2f} images/s, {left}, {failed} failed{lmdb}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """Shows progress from a thread of its own for as long as it is entered.

    Args:
        total: images of the run.
        done_before: images that earlier attempts have published.
        counts: gives the run's counters when called.
        stream: where it is shown.
    """

    def __init__(self, total: int, done_before: int, counts: Callable[[], Mapping[str, int]], stream: TextIO) -> None:
        self._total = total
        self._before = done_before
        self._counts = counts
        self._stream = stream
        self._terminal = stream.isatty()
        self._stop = threading.Event()
        self._began = self._latest = time.monotonic()
        self._fresh = 0
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._terminal:
            self._print_bar()
            self._stream.write("\n")

    def _show(self) -> None:
        while not self._stop.wait(_BAR_SECONDS if self._terminal else _LINE_SECONDS):
            if self._terminal:
                self._print_bar()
            else:
                self._stream.write(self._line()[1] + "\n")
            self._stream.flush()

    def _print_bar(self) -> None:
        done, line = self._line()
        # A text as wide as the terminal would wrap, and \r then returns to the wrong line.
        room = shutil.get_terminal_size().columns - 1
        width = min(_BAR_WIDTH, room - len(line) - len("[] "))
        filled = width * done // max(self._total, 1)
        bar = f"[{'#' * filled}{'.' * (width - filled)}] " if width > 0 else ""
        self._stream.write(f"\r{(bar + line)[:room]}\x1b[K")

    def _line(self) -> tuple[int, str]:
        counts = self._counts()
        failed = counts.get(IMAGES_FAILED, 0)
        fresh = counts.get(IMAGES_WRITTEN, 0) + failed
        # The rate is that of the images: what comes after the last one must not slow it down.
        if fresh != self._fresh:
            self._fresh, self._latest = fresh, time.monotonic()
        done = min(self._before + fresh, self._total)
        seconds = self._latest - self._began
        return done, progress_line(done, self._total, failed, fresh, seconds, counts.get("lmdb_records_written", 0))
