"""Records by key out of anything that holds records: shards, LMDBs, TSVs, any other format, the output of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from region_features.allocation import keep_freed_blocks
from region_features.records.failure import Failure
from region_features.records.region_record import RegionRecord
from region_features.sources.base import Source, with_size
from region_features.sources.find import find_sources


class Records(Protocol):
    """Records by LMDB key.

    Attributes:
        kind: what they were read from, in a word.
        keys: LMDB keys of the images, as text.
        left_out: images that cannot be looked up: those that share a key, and damaged rows.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102

    @property
    def keys(self) -> Sequence[str]: ...  # noqa: D102

    @property
    def left_out(self) -> int: ...  # noqa: D102

    def read(self, key: str) -> RegionRecord:
        """Return the record of a key; ValueError or OSError if it cannot be read. Any number of threads may read."""
        ...


def open_records(path: str) -> Records:
    """Open whatever holds records of regions.

    Args:
        path: local: the output folder of a run, a folder of shards, an LMDB, a shard, a file or folder of any format
            that `find_sources` knows, or a glob of these.

    Raises:
        FileNotFoundError: nothing of that kind is there.
        ImportError: a package of the extra `formats` is missing.
        ValueError: the path is remote, or what is there is damaged.
        OSError: a file cannot be read.
    """
    if "://" in path:
        raise ValueError(f"{path}: expected a local path; copy the files to a local disk")
    keep_freed_blocks()
    return _SourceRecords(path)


class _Found(NamedTuple):
    source: Source
    place: str
    img_id: str


class _SourceRecords:
    """Everything that a path names; of an image that comes twice the first record counts."""

    def __init__(self, path: str) -> None:
        self._found: dict[str, _Found] = {}
        self.left_out, problem = 0, ""
        kinds: set[str] = set()
        shared: set[str] = set()
        for source in find_sources(path):
            kinds.add(source.kind)
            for entry in source.keyed_places():
                if isinstance(entry, Failure):
                    self.left_out, problem = self.left_out + 1, problem or entry.reason
                    continue
                key, img_id, place = entry
                earlier = self._found.setdefault(key, _Found(source, place, img_id))
                # An LMDB is not searched for ids that its keys follow from: there the key stands in place of the id.
                if earlier.img_id != img_id and key not in (earlier.img_id, img_id):
                    shared.add(key)
                    self.left_out += 1
        for key in shared:
            del self._found[key]
            self.left_out += 1
        if not self._found:
            raise ValueError(f"{path}: expected records of images, found none{f': {problem}' if problem else ''}")
        self.kind = ", ".join(sorted(kinds))
        self.keys: Sequence[str] = list(self._found)

    def read(self, key: str) -> RegionRecord:
        found = self._found[key]
        return found.source.read(found.place)


def in_one_frame(one: RegionRecord, other: RegionRecord) -> tuple[RegionRecord, RegionRecord]:
    """Give a record whose source does not know its image's size that of the other record.

    Boxes that are known relative to the image alone, as of an image of 1 x 1 pixels, are brought to that size. Where
    neither source knows it, it is taken as the edge of the farthest boxes.
    """
    sizes = [_size_of(record) for record in (one, other)]
    known = next((size for size in sizes if size), None)
    if known is None:
        ends = [record.boxes[:, :4].max(axis=0, initial=1.0) for record in (one, other)]
        known = (int(np.ceil(max(end[3] for end in ends))), int(np.ceil(max(end[2] for end in ends))))
    first, second = (
        record if size else with_size(record, *known) for record, size in zip((one, other), sizes, strict=True)
    )
    return first, second


def _size_of(record: RegionRecord) -> tuple[int, int] | None:
    """Return height and width, None where the record's source does not know them."""
    known = min(record.img_h, record.img_w) > 0 and (record.img_h, record.img_w) != (1, 1)
    return (record.img_h, record.img_w) if known else None
