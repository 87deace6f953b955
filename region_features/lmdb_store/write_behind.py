"""Flush a growing file to disk while its writer goes on."""

from __future__ import annotations

import os
import threading
from types import TracebackType

_STEP_BYTES = 64 << 20


class WriteBehind:
    """Flush a file in a thread of its own whenever it has grown by 64 MiB, and drop its pages from the page cache.

    The system reuses the dropped pages for the next writes. Fresh pages cost more than encoding their content, and a
    file larger than memory would evict everything else from the cache.

    Args:
        path: the file; it must exist, and must not be replaced before the end.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._handle = os.open(path, os.O_RDONLY)
        self._due = threading.Event()
        self._ended = False
        self._error: OSError | None = None
        self._pending = 0
        self._thread = threading.Thread(target=self._work, name="write-behind", daemon=True)
        self._thread.start()

    def grew(self, num_bytes: int) -> None:
        """Count bytes that were appended to the file.

        Raises:
            OSError: an earlier flush failed.
        """
        self._check()
        self._pending += num_bytes
        if self._pending >= _STEP_BYTES:
            self._pending = 0
            self._due.set()

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self._ended = True
        self._due.set()
        self._thread.join()
        os.close(self._handle)
        if error is None:
            self._check()

    def _check(self) -> None:
        # The system reports a failed write to one fsync only: the later fsync of the writer would succeed.
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while self._due.wait() and not self._ended:
            self._due.clear()
            try:
                os.fsync(self._handle)
                if hasattr(os, "posix_fadvise"):  # not on macOS
                    os.posix_fadvise(self._handle, 0, 0, os.POSIX_FADV_DONTNEED)
            except OSError as error:
                message = f"{error.strerror}: what was written to {self._path} did not reach the disk"
                self._error = OSError(error.errno, message)
                return
