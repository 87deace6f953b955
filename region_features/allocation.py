"""How the C library allocates the memory of records."""

from __future__ import annotations

from functools import cache


@cache
def keep_freed_blocks() -> None:
    """Have glibc keep freed blocks of a record's size for the next ones, which is many times faster.

    It gives blocks of more than 128 KiB back to the kernel on every free, and the page faults of the next ones cost
    several times the encoding or decoding, until it has seen a larger block freed (mallopt(3), M_MMAP_THRESHOLD). Other
    C libraries are left as they are.
    """
    bytearray(24 << 20)
