"""Iteration in a second thread, so that reading and encoding overlap with writing."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")


def in_background(items: Iterable[T], ahead: int) -> Generator[T, None, None]:
    """Iterates in a thread of its own, at most `ahead` items ahead.

    What the iteration raises is raised here. Once this generator has ended or is closed, so has the thread.

    Args:
        items: what to iterate; only that thread touches it.
        ahead: items that may wait; the thread holds one more in its hand.

    Yields:
        The items in order.
    """
    waiting: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(ahead)
    stop = threading.Event()

    def work() -> None:
        end: BaseException | None = None
        try:
            for item in items:
                waiting.put((item,))
                if stop.is_set():
                    return
        except BaseException as error:
            end = error
        waiting.put(end)

    thread = threading.Thread(target=work, name="background-iteration", daemon=True)
    thread.start()
    try:
        while (got := waiting.get()) is not None:
            if isinstance(got, BaseException):
                raise got
            yield got[0]
    finally:
        stop.set()
        while thread.is_alive():  # make room for the put that it may be waiting in
            try:
                waiting.get(timeout=0.05)
            except queue.Empty:
                continue
