"""Where a program speaks to its user: standard error, be it a terminal, a notebook or a log file, and --log_json."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from beam_pipeline.full_disk import TemporaryDiskFull
from beam_pipeline.preflight.environment import version_line
from beam_pipeline.progress.event_log import EventLog
from beam_pipeline.usage import UsageError, one_line, printable

TERMINAL, NOTEBOOK, LOG = "terminal", "notebook", "log"
WARNING = "warning: "  # begins such a line of a summary


def kind_of(stream: TextIO) -> str:
    """Return what shows a stream: `terminal`, `notebook`, else `log`, a file or a pipe."""
    if stream.isatty():
        return TERMINAL
    return NOTEBOOK if type(stream).__module__.startswith("ipykernel.") else LOG


class Console:
    """Prints notes, and below them one line that changes: a progress bar. Any thread may call.

    Args:
        stream: where; None for standard error as it is at each call.
        quiet: print only warnings and errors.
        log: takes everything that is said as events, too.
    """

    def __init__(self, stream: TextIO | None = None, quiet: bool = False, log: EventLog | None = None) -> None:
        self._stream, self.quiet, self._log = stream, quiet, log
        self._lock, self._began = threading.RLock(), time.monotonic()
        self._bar = ""
        self.latest_line: float | None = None  # when a log got its last line of progress

    @property
    def stream(self) -> TextIO:
        """Where it prints."""
        return self._stream or sys.stderr

    @property
    def seconds(self) -> float:
        """How long it has been there."""
        return time.monotonic() - self._began

    @property
    def kind(self) -> str:
        """What shows it: `terminal`, `notebook` or `log`."""
        return kind_of(self.stream)

    def note(self, text: str) -> None:
        """Say what the user should know."""
        self.event("note", text=text)
        self._print(f"note: {text}")

    def fail(self, program: str, text: str) -> None:
        """Say why a program ends."""
        self.event("error", text=text)
        self._print(f"{program}: {text}", always=True, stamped=False)

    def summarize(self, lines: Sequence[str]) -> None:
        """Print a result to standard output; with --quiet its warnings alone, to standard error."""
        for line in lines:
            self.event("warning" if line.startswith(WARNING) else "summary", text=line.removeprefix(WARNING))
            if self.quiet and line.startswith(WARNING):
                self._print(line, always=True)
        if not self.quiet:
            print("\n".join(map(printable, lines)), flush=True)

    def event(self, event: str, **fields: Any) -> None:
        """Add an event to --log_json."""
        if self._log:
            self._log.write(event, **fields)

    def line(self, text: str) -> None:
        """Print a line of progress."""
        self._print(text)

    def draw(self, text: str) -> None:
        """Show a bar in place of the last one, on a terminal or in a notebook."""
        if self.quiet:
            return
        text = printable(text)
        with self._lock:
            before, self._bar = self._bar, text
            self._write(f"\r{text}\x1b[K" if self.kind == TERMINAL else f"\r{text.ljust(len(before))}")

    def leave_bar(self) -> None:
        """Leave the bar as it is, and go on below it."""
        with self._lock:
            if self._bar:
                self._write("\n")
            self._bar = ""

    def _print(self, text: str, always: bool = False, stamped: bool = True) -> None:
        if self.quiet and not always:
            return
        text = printable(text)
        with self._lock:
            if self._bar:
                above = f"\r\x1b[K{text}" if self.kind == TERMINAL else f"\r{text.ljust(len(self._bar))}"
                self._write(f"{above}\n\r{self._bar}")
            elif stamped and self.kind == LOG:
                self._write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
            else:
                self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


_current = Console()


def console() -> Console:
    """Return the console of this process."""
    return _current


def run_spoken(program: str, quiet: bool, log_json: str | None, action: Callable[[], int]) -> int:
    """Do something with a console of its own, which says its begin, its end and why it failed.

    Args:
        program: its name, before errors.
        quiet: print only warnings and errors.
        log_json: the file for events, None for none.
        action: returns an exit status, or raises UsageError.

    Returns:
        Exit status: the action's, 2 for a UsageError, 1 where there is no room for temporary files.

    Raises:
        UsageError: the file cannot be written.
        BaseException: what else the action raises.
    """
    global _current
    before = _current
    log = EventLog(log_json) if log_json else None
    _current = Console(None, quiet, log)
    _current.event("begin", program=program, version=version_line(), process=os.getpid())
    status: int | None = None
    try:
        status = action()
    except UsageError as error:
        _current.fail(program, one_line(error))
        status = 2
    except TemporaryDiskFull as error:
        _current.fail(program, f"{one_line(error)}; then run the same command again")
        status = 1
    except BaseException as error:
        _current.event("error", text=one_line(error) or type(error).__name__)
        status = getattr(error, "status", None)
        raise
    finally:
        _current.event("end", status=status, seconds=round(_current.seconds, 3))
        _current = before
        if log:
            log.close()
    return status


def note(text: str) -> None:
    """Say what the user should know, on the console of this process."""
    _current.note(text)
