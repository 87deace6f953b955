"""Poison quarantine: after two deaths at a shard its images are tried apart, and the one that kills is a failure.

An image that makes a decoder crash would otherwise kill every run again. A mark is written when a shard is begun, and
deleted when it is published or its attempt ends in order: a mark that is left tells of a death.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from region_features.records.failure import ImageFailure
from region_features.records.plan import ShardKey
from transforms import files

DEATHS = 2


def _prefix(shard: ShardKey) -> str:
    return f"{files.TEMP_PREFIX}begun-{shard.filename}-"


def begin(folder: str, shard: ShardKey) -> tuple[str, bool]:
    """Mark a shard as begun.

    Args:
        folder: of the shards.
        shard: which.

    Returns:
        Path of the mark, and whether so many earlier attempts died that the shard's images are to be tried apart.
    """
    deaths = sum(name.startswith(_prefix(shard)) for name in files.list_folder(folder))
    mark = files.join(folder, _prefix(shard) + uuid.uuid4().hex[:8])  # short: the longest file name of a run
    files.publish_bytes(mark, [])
    return mark, deaths >= DEATHS


def end(folder: str, shard: ShardKey) -> None:
    """Delete the marks of a shard that is published."""
    files.delete_temporaries(folder, _prefix(shard))


class Trial:
    """Calls a function in a process of its own first, one call at a time, to see whether it survives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def survive(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a module's function on picklable arguments; what it returns or raises is dropped.

        Raises:
            ImageFailure: stage `decode`: the process died.
        """
        with self._lock:
            if self._pool is None:
                spawn = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=_end_with_parent)
            try:
                with contextlib.suppress(ImageFailure):
                    self._pool.submit(_call, function, arguments).result()
            except BrokenProcessPool as error:
                self.close()
                raise ImageFailure(
                    "decode", f"the process that decoded it alone died, after {DEATHS} runs had died at its shard"
                ) from error

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _end_with_parent() -> None:
    """Watch the parent from a thread: if it is killed, this process would wait for its next call for ever."""
    parent = multiprocessing.parent_process()
    assert parent

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with contextlib.suppress(Exception):
        function(*arguments)
