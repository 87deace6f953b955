"""`--log_json`: what a program does, an event a line, for other programs to follow."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any

from beam_pipeline.usage import UsageError
from transforms import files


class EventLog:
    """Appends events to a local file, each flushed as a whole line; docs/progress.md lists them.

    Args:
        path: the file; events of earlier runs in it stay.

    Raises:
        UsageError: it cannot be written.
    """

    def __init__(self, path: str) -> None:
        if files.is_remote(path):
            raise UsageError(f"--log_json {path}: expected a local file, since others cannot be appended to")
        try:
            self._stream = open(path, "ab+")  # noqa: SIM115 - `close` closes it
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(
                f"--log_json {path}: expected a file to append to, got: {reason}; check the path"
            ) from error
        self._lock = threading.Lock()
        if self._stream.tell() and not self._ends_with_a_line():
            self._stream.write(b"\n")  # a killed run's last line

    def _ends_with_a_line(self) -> bool:
        self._stream.seek(-1, os.SEEK_END)
        return self._stream.read(1) == b"\n"

    def write(self, event: str, **fields: Any) -> None:
        """Append an event; an event that cannot be written is dropped, since it must not end a run."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        line = json.dumps({"time": stamp, "event": event, **fields}, ensure_ascii=True) + "\n"
        with self._lock:
            try:
                self._stream.write(line.encode())
                self._stream.flush()
            except (OSError, ValueError):
                pass

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._stream.close()
