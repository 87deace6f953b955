"""What a parser is to `benchmarks.fuzz` and its test: how it gets bytes, and what it may raise."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from region_features.records.failure import ImageFailure

SOURCE = "the file"  # what messages call the input
SCRATCH = Path(tempfile.mkdtemp(prefix="fuzz-"))
# Nested deeper than Python's parsers go.
NESTED = [b"[" * 5000, b'{"a":' * 3000]


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        feed: gives it bytes.
        seeds: makes whole inputs.
        allowed: what it may raise.
        named: whether each message has `SOURCE` in it.
    """

    feed: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    allowed: tuple[type[Exception], ...] = (ValueError, OSError, ImageFailure)
    named: bool = False


def write_file(data: bytes, name: str = SOURCE) -> str:
    """Write an input where a parser reads files; return the path.

    It is a new file each time: libraries that have the last one open, or mapped, must not see it change.
    """
    path = SCRATCH / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return str(path)


def check_message(error: Exception) -> None:
    """Raise an AssertionError if an error's message does not name the input."""
    assert SOURCE in str(error), f"expected a message that names {SOURCE!r}: {error!r}"


def feed(target: Target, data: bytes) -> None:
    """Give a parser its input; whatever is raised here is a finding."""
    try:
        target.feed(data)
    except target.allowed as error:
        if target.named:
            check_message(error)


def mutations(seeds: list[bytes], rng: np.random.Generator) -> Iterator[bytes]:
    """Yield the seeds, then damaged ones without end: bytes changed, cut out, repeated, or taken from another seed."""
    yield from seeds
    yield from NESTED
    while True:
        data = bytearray(seeds[rng.integers(len(seeds))])
        for _ in range(rng.integers(1, 4)):
            start, length = int(rng.integers(0, len(data) + 1)), int(rng.integers(1, 9))
            other = seeds[rng.integers(len(seeds))]
            place = int(rng.integers(0, len(other)))
            pieces = [rng.bytes(length), b"", bytes(data[start : start + length]) * 2, other[place : place + length]]
            pieces += [bytes(length), b"\xff" * length, b"9" * length, b"9" * 400, b"[]", b"NaN", NESTED[0]]
            data[start : start + length * int(rng.integers(0, 2))] = pieces[rng.integers(len(pieces))]
        yield bytes(data)
