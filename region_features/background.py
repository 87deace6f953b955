"""Work in other threads: iteration beside the caller's, and many small pieces of work side by side."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")
_SLICE = 64  # most items that pass to a thread together


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


def in_threads(work: Callable[[S], T], items: Sequence[S], threads: int) -> Iterator[T]:
    """Yield `work` of each item, in the order of the items; after an exception no more of them are begun."""
    size = max(1, min(_SLICE, len(items) // (4 * threads)))
    slices = [items[start : start + size] for start in range(0, len(items), size)]
    with ThreadPoolExecutor(threads) as pool:
        for results in pool.map(lambda part: [work(item) for item in part], slices):
            yield from results
