"""The images that sources name, in the order of their listing."""

from __future__ import annotations

from collections.abc import Sequence
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
