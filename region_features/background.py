"""Iteration in a second thread, to overlap reading and encoding with writing."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")


def in_background(items: Iterable[T], ahead: int) -> Generator[T, None, None]:
    """Yield the items in order, iterating over them in a thread of its own.

    An exception of the iteration is raised here. The thread ends with this generator: close it.

    Args:
        items: used by that thread only.
        ahead: maximum number of items in the queue; the thread holds one more.
    """
    fetched: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(ahead)
    stop = threading.Event()

    def work() -> None:
        end: BaseException | None = None
        try:
            for item in items:
                fetched.put((item,))
                if stop.is_set():
                    return
        except BaseException as error:
            end = error
        fetched.put(end)

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
            try:
                fetched.get(timeout=0.05)
            except queue.Empty:
                continue
