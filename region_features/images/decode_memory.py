"""Bound the memory that a process takes to decode images in many threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class DecodeMemory:
    """Counts the bytes that threads have reserved, and makes a thread wait that asks for more than is left."""

    def __init__(self) -> None:
        self._reserved = 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, size: int, limit: int) -> Iterator[None]:
        """Hold `size` bytes within the block, after waiting until all reservations together are within `limit`.

        A larger size waits until nothing else is reserved. A thread that holds a reservation must not ask for another.
        """
        size = min(size, limit)
        with self._changed:
            self._changed.wait_for(lambda: self._reserved + size <= limit)
            self._reserved += size
        try:
            yield
        finally:
            with self._changed:
                self._reserved -= size
                self._changed.notify_all()


DECODE_MEMORY = DecodeMemory()  # of this process
