"""Two images of one key, which no LMDB can hold."""

from __future__ import annotations

from typing import NamedTuple


class Clash(NamedTuple):
    """Two images that would share a key in one LMDB, and how many such pairs there are."""

    key: bytes
    first: str
    second: str
    pairs: int

    def describe(self) -> str:
        """Say which two images they are, and why they have one key."""
        key = self.key.decode()
        number, stem = (
            "the number at the end of the file's name, without leading zeros",
            "the file's name without suffix",
        )
        rule = number if key.isascii() and key.isdigit() else stem
        pairs = "" if self.pairs == 1 else f" ({self.pairs} such pairs in all)"
        return (
            f"expected an LMDB key for each image, got {key!r} for both {self.first} and {self.second}{pairs}: the key "
            f"is {rule}; rename one, or put it into a folder of another name"
        )
