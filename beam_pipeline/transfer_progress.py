"""What a download shows while it works: a bar on a terminal, a line every 30 seconds elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import TextIO

_BAR_SECONDS = 0.5
_LINE_SECONDS = 30.0
_BAR_WIDTH = 24


def transfer_line(what: str, done: int, total: int | None, fresh: int, seconds: float) -> str:
    """One line: how much of `what` is done, MB/s, time left.

    Args:
        done: bytes that are there, those of earlier attempts included.
        total: bytes of the whole, None where it is not known.
        fresh: bytes since the start, for the rate.
        seconds: since the start.
    """
    rate = fresh / seconds if seconds > 0 else 0.0
    if total is None:
        return f"{what}: {done / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s"
    left = f"{timedelta(seconds=round((total - done) / rate))} left" if rate > 0 else "-:--:-- left"
    return f"{what}: {done / 1e6:.1f} of {total / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s, {left}"


class TransferProgress:
    """Called with the bytes done and the whole size; shows them now and then, and last at the end of the block.

    Args:
        what: names the work in the line.
        stream: where it is shown.
        clock: seconds.
    """

    def __init__(self, what: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._began = self._shown = clock()
        self._first: int | None = None
        self._latest: tuple[int, int | None] | None = None

    def __enter__(self) -> TransferProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal and self._latest:
            self._show()
            self._stream.write("\n")

    def __call__(self, done: int, total: int | None) -> None:
        """Take what is done; show it if it is time."""
        if self._first is None or done < self._first:
            self._first = done
        self._latest = done, total
        now = self._clock()
        if now - self._shown >= (_BAR_SECONDS if self._terminal else _LINE_SECONDS):
            self._shown = now
            self._show()

    def note(self, text: str) -> None:
        """Show a line of text between."""
        self._stream.write(f"\r\x1b[K{text}\n" if self._terminal else f"{text}\n")
        self._stream.flush()

    def _show(self) -> None:
        if self._latest is None or self._first is None:
            return
        done, total = self._latest
        line = transfer_line(self._what, done, total, done - self._first, self._clock() - self._began)
        if self._terminal:
            # A text as wide as the terminal would wrap, and \r then returns to the wrong line.
            room = shutil.get_terminal_size().columns - 1
            width = min(_BAR_WIDTH, room - len(line) - len("[] ")) if total else 0
            filled = width * done // total if total else 0
            bar = f"[{'#' * filled}{'.' * (width - filled)}] " if width > 0 else ""
            self._stream.write(f"\r{(bar + line)[:room]}\x1b[K")
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()
