"""Flush a growing file to disk while its writer goes on."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor

_STEP_BYTES = 64 << 20


class WriteBehind:
    """Flush a file in a thread of its own whenever it has grown by 64 MiB, and drop its pages from the page cache.

    The system reuses the dropped pages for the next writes. Fresh pages cost more than encoding their content, and a
    file larger than memory would evict everything else from the cache.

    The file must exist, and must not be replaced before the end.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._handle = os.open(path, os.O_RDONLY)
        self._thread = ThreadPoolExecutor(1, "write-behind")
        self._last_flush: Future[None] | None = None
        self._pending = 0

    def grew(self, num_bytes: int) -> None:
        """Count bytes that were appended to the file; OSError if an earlier flush failed."""
        self._pending += num_bytes
        if self._last_flush is not None:
            if not self._last_flush.done():
                return
            self._last_flush.result()
        if self._pending >= _STEP_BYTES:
            self._pending = 0
            self._last_flush = self._thread.submit(self._flush)

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(self, kind: object, error: BaseException | None, stack: object) -> None:
        self._thread.shutdown()
        os.close(self._handle)
        # The system reports a failed write to one fsync only: a later fsync of the writer would succeed.
        if error is None and self._last_flush is not None:
            self._last_flush.result()

    def _flush(self) -> None:
        try:
            os.fsync(self._handle)
            if hasattr(os, "posix_fadvise"):  # not on macOS
                os.posix_fadvise(self._handle, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            message = f"{error.strerror}: what was written to {self._path} did not reach the disk"
            raise OSError(error.errno, message) from error
