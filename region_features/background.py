"""Iteration in a second thread, to overlap reading and encoding with writing."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")


def in_background(items: Iterable[T], ahead: int) -> Generator[T, None, None]:
    """Yield the items in order, iterating over them in a thread of its own, which alone uses `items`.

    At most `ahead` items wait in the queue; the thread holds one more. An exception of the iteration is raised here.
    The thread ends with this generator: close it.
    """
    fetched: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(ahead)
    stop = threading.Event()

    def work() -> None:
        try:
            for item in items:
                fetched.put((item,))
                if stop.is_set():
                    return
            fetched.put(None)
        except BaseException as error:
            fetched.put(error)

    thread = threading.Thread(target=work, name="background-iteration", daemon=True)
    thread.start()
    try:
        while (entry := fetched.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]
    finally:
        stop.set()
        while thread.is_alive():  # make room: the thread may be blocked in put
            with contextlib.suppress(queue.Empty):
                fetched.get(timeout=0.05)
