"""What the LMDBs of all formats have in common.

A reader thread merges the sets' shards by key and encodes; the calling thread appends and commits.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from region_features.background import in_background
from region_features.exports.base import Copy, OnProgress, ShardImage, Sources
from region_features.lmdb_store.reader import LmdbReader
from region_features.lmdb_store.writer import LmdbItem, LmdbWriter, map_size_for
from region_features.records.key import lmdb_key
from region_features.records.region_record import RegionRecord
from region_features.validation.record import Problem

BATCH_BYTES = 8 << 20  # encoded records that pass from thread to thread at once
_BATCHES_AHEAD = 2
Decode = Callable[[bytes, str], Mapping[str, Any]]


class Entry(NamedTuple):
    """A record on its way from its shard."""

    key: bytes
    shard: str
    record: RegionRecord


def merge_sets(sources: Sources) -> Iterator[Entry]:
    """Merge the sets' records by key, holding one record of each set.

    Raises:
        ValueError: two images have one key, or a set's keys do not ascend; names both images and shards.
    """
    sets = (_ascending(_entries(sources, paths)) for paths in sources.shards.values())
    return _ascending(heapq.merge(*sets, key=_entry_key))


def _entries(sources: Sources, paths: Iterable[str]) -> Iterator[Entry]:
    for shard, example in sources.examples(paths):
        yield Entry(lmdb_key(example.record.img_id), shard, example.record)


def _entry_key(entry: Entry) -> bytes:
    return entry.key


def _ascending(entries: Iterable[Entry]) -> Iterator[Entry]:
    last: Entry | None = None
    for entry in entries:
        if last is not None and entry.key <= last.key:
            both = (
                f"image {last.record.img_id} ({last.shard}) has LMDB key {last.key!r} and after it "
                f"image {entry.record.img_id} ({entry.shard}) {entry.key!r}"
            )
            if entry.key == last.key:
                raise ValueError(f"expected one image a key: {both}; rename or leave out one of the two images")
            raise ValueError(f"expected ascending keys in bytes' order: {both}; delete the shard and write it again")
        last = entry
        yield entry


def encoded_batches(
    entries: Iterable[Entry], encode: Callable[[Entry], Sequence[LmdbItem]]
) -> Iterator[list[Sequence[LmdbItem]]]:
    """Encode entries into the items that each gives, in lists of about BATCH_BYTES."""
    batch: list[Sequence[LmdbItem]] = []
    size = 0
    for entry in entries:
        batch.append(encode(entry))
        size += sum(len(item.value) for item in batch[-1])
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


def open_writer(folder: str, sources: Sources, ascending: bool = True) -> LmdbWriter:
    """Open an empty LMDB, with room for what is built from the shards, in a folder of its own."""
    return LmdbWriter(folder, map_size_for(sources.num_bytes), ascending)


def write_merged(
    writers: Sequence[LmdbWriter],
    sources: Sources,
    encode: Callable[[Entry], Sequence[LmdbItem]],
    on_progress: OnProgress,
) -> int:
    """Write the items of each record, one for each LMDB; return the number of records.

    Raises:
        ValueError: see `merge_sets`.
        lmdb.Error: a file cannot be written.
    """
    records = 0
    with closing(in_background(encoded_batches(merge_sets(sources), encode), _BATCHES_AHEAD)) as batches:
        for batch in batches:
            for position, writer in enumerate(writers):
                writer.write([items[position] for items in batch])
            records += len(batch)
            on_progress("records_written", records)
    return records


@contextlib.contextmanager
def naming_lack_of_room(folder: str, sources: Sources) -> Iterator[None]:
    """Raise lmdb's errors while writing into `folder` as an OSError that says how much room is needed."""
    import lmdb

    try:
        yield
    except lmdb.Error as error:
        raise OSError(
            errno.ENOSPC,
            f"LMDB {sources.output}: expected room for about {sources.num_bytes * 3 // 2:,} bytes in "
            f"{os.path.dirname(folder)}, got {error} and {shutil.disk_usage(folder).free:,} bytes free; "
            "free some or choose another place",
        ) from error


@dataclass(frozen=True)
class LmdbLayout:
    """What stands in an LMDB.

    Attributes:
        key: img_id -> key.
        encode: record -> value.
        final_records: the keys in their bytes' order -> the records beside those of the images.
        ascending: whether the keys have the order of the shards' records.
    """

    key: Callable[[str], bytes]
    encode: Callable[[RegionRecord], bytes]
    final_records: Callable[[Sequence[bytes]], Mapping[bytes, bytes]]
    ascending: bool = True


def build_lmdb(folder: str, sources: Sources, layout: LmdbLayout, on_progress: OnProgress) -> dict[str, int]:
    """Write `folder`/data.mdb; return the count `records`.

    Raises:
        ValueError: two images have one key, or a set's keys do not ascend; names images and shards.
        OSError: the file cannot be written.
    """

    def encode(entry: Entry) -> Sequence[LmdbItem]:
        return (LmdbItem(layout.key(entry.record.img_id), layout.encode(entry.record), entry.shard),)

    with naming_lack_of_room(folder, sources), open_writer(folder, sources, layout.ascending) as writer:
        records = write_merged([writer], sources, encode, on_progress)
        writer.finish(layout.final_records)
    return {"records": records}


class LmdbValuesCopy(Copy):
    """The values of an LMDB, compared with those that the records of the shards must have.

    Args:
        kind: of the problems.
        path: of the LMDB.
        layout: what must stand in it.
        decode: value and a name for messages -> its fields by name; ValueError if it is damaged.
        records: how many records its note tells, None if it does not.
    """

    def __init__(self, kind: str, path: str, layout: LmdbLayout, decode: Decode, records: int | None) -> None:
        self._kind, self._path, self._layout, self._decode, self._records = kind, path, layout, decode, records
        self._reader = LmdbReader(path)

    def check(self, record: RegionRecord, shard: str) -> Iterator[Problem]:
        """Compare the value of a record."""
        key = self._layout.key(record.img_id)
        where = f"{self._path}, key {key.decode()!r}"
        expected = self._layout.encode(record)
        try:
            stored = self._reader.get(key)
            if stored is None:
                expected_key = f"expected key {key.decode()!r} for {record.img_id} of {shard}, found none"
                yield Problem(self._kind, f"{self._path}: {expected_key}")
            elif stored != expected:
                names = _differing(self._decode(stored, where), self._decode(expected, where))
                if names:
                    differing = f"not the record of {record.img_id} in {shard}: {', '.join(names)} differ"
                    yield Problem(self._kind, f"{where}: {differing}")
        except ValueError as error:
            yield Problem(self._kind, str(error))

    def check_rest(self, images: Sequence[ShardImage], whole: bool) -> Iterator[Problem]:
        """Name keys of no image, and other records that are not as they must be."""
        final_names = self._layout.final_records([]).keys()
        try:
            stored = [key for key in self._reader.stored_keys() if key not in final_names]
            for name, value in self._layout.final_records(stored).items():
                if self._reader.get(name) != value:
                    message = f"its record {name.decode()!r} is not what the other keys give; build it again"
                    yield Problem(self._kind, f"{self._path}: {message}")
        except ValueError as error:
            yield Problem(self._kind, str(error))
            return
        strangers = set(stored) - {self._layout.key(image.img_id) for image in images}
        if strangers and whole:
            example = min(strangers).decode(errors="backslashreplace")
            message = f"{len(strangers)} keys are of no image in the shards, {example!r} for one"
            yield Problem(self._kind, f"{self._path}: {message}")
        if self._records is not None and self._records != len(stored):
            yield Problem(self._kind, f"{self._path}: expected {self._records} records (its note), got {len(stored)}")


def _differing(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    def content(value: Any) -> Any:
        return (value.dtype.str, value.shape, value.tobytes()) if hasattr(value, "tobytes") else value

    return [name for name in {**left, **right} if content(left.get(name)) != content(right.get(name))]
