"""Look at the beginning of a file that can be read only once."""

from __future__ import annotations

from collections.abc import Callable

_PEEKED_BYTES = 1 << 18


def peek(read: Callable[[int], bytes]) -> tuple[bytes, Callable[[int], bytes]]:
    """Return the first 256 KiB of a file, or all of a shorter one, and what reads it from its begin.

    Args:
        read: reads at most so many bytes of the file, none at its end.
    """
    head = b""
    while len(head) < _PEEKED_BYTES and (data := read(_PEEKED_BYTES - len(head))):
        head += data
    rest = head

    def again(size: int) -> bytes:
        nonlocal rest
        data, rest = rest[:size], rest[size:]
        return data or read(size)

    return head, again
