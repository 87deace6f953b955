"""The images that sources name, in the order of their listing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from region_features.records.failure import Failure
from region_features.records.plan import ImageRef
from transforms.listing import list_images


class Listed(NamedTuple):
    refs: tuple[ImageRef, ...]
    notes: tuple[str, ...]
    failures: tuple[Failure, ...]


def listed(sources: Sequence[str], recursive: bool = False, output: str = "") -> Listed:
    refs: dict[str, ImageRef] = {}

    def add(place: str, ref: ImageRef) -> bool:
        return refs.setdefault(place, ref) is ref

    listing = list_images(sources, add, recursive, output)
    return Listed(tuple(refs.values()), listing.notes, listing.failures)


def touch(*names: str | Path, size: int = 3) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x" * size)


def uris(*sources: str) -> list[str]:
    return [ref.uri for ref in listed(sources).refs]
