"""LMDB folders, in VOLTA's own form and others.

A reader thread merges the sets' shards by key and encodes; the calling thread appends and commits.
"""

from __future__ import annotations

import errno
import heapq
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from region_features.background import in_background
from region_features.exports.base import (
    FEATURES_FOLDER,
    Copy,
    Export,
    OnProgress,
    ShardImage,
    Sources,
    Target,
    group_sets,
)
from region_features.lmdb_store.reader import DATA_FILE, LmdbReader
from region_features.lmdb_store.value_codecs import SOURCE_FILE, VALUE_CODECS, VOLTA, ValueCodec
from region_features.lmdb_store.writer import LmdbItem, map_size_for, write_lmdb
from region_features.records.build_note import BuildNote
from region_features.records.coco import lmdb_name
from region_features.records.key import lmdb_key
from region_features.records.region_record import RegionRecord
from region_features.validation.record import Problem, check_key_list, differing_fields

LMDBS_FOLDER = f"{FEATURES_FOLDER}/volta"
BATCH_BYTES = 8 << 20  # encoded records that pass from thread to thread at once
_BATCHES_AHEAD = 2


class Entry(NamedTuple):
    """A record on its way from its shard."""

    key: bytes
    shard: str
    record: RegionRecord


@dataclass(frozen=True)
class LmdbExport(Export):
    """One LMDB a set, but one for COCO's training and validation images together."""

    lmdb_form: str = VOLTA

    name = "lmdb"

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name `trainval_feat.lmdb`, `test_feat.lmdb`, or `SET_feat.lmdb` for any other set."""
        for name, members in group_sets(sets, lmdb_name):
            folder = f"{name}_feat.lmdb"
            yield Target(folder, members, (DATA_FILE,), f"{LMDBS_FOLDER}/{folder}", SOURCE_FILE)

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, int]:
        """Write `data.mdb`; two images with one key, or keys that do not ascend, are a ValueError."""
        import lmdb

        # glibc hands blocks of a record's size back to the kernel on every free, and the page faults of the next ones
        # cost several times the encoding, until it has seen a larger block freed.
        bytearray(24 << 20)
        codec = VALUE_CODECS[self.lmdb_form]

        def on_commit(records: int) -> None:
            on_progress("records_written", records)

        try:
            with closing(in_background(encoded_batches(merge_sets(sources), codec), _BATCHES_AHEAD)) as batches:
                map_size = map_size_for(sources.num_bytes)
                return {"records": write_lmdb(folder, batches, map_size, codec.encode_keys, on_commit)}
        except lmdb.Error as error:
            raise OSError(
                errno.ENOSPC,
                f"LMDB {sources.output}: expected room for about {sources.num_bytes * 3 // 2:,} bytes in "
                f"{os.path.dirname(folder)}, got {error} and {shutil.disk_usage(folder).free:,} bytes free; "
                "free some or choose another place",
            ) from error

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Open the LMDB."""
        return _LmdbCopy(LmdbReader(folder), note.counts.get("records"))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how many records it holds, in which form."""
        return f"{row['records']} records, {row['lmdb_form']}"


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


def encoded_batches(entries: Iterable[Entry], codec: ValueCodec) -> Iterator[list[LmdbItem]]:
    """Encode entries, in lists of about BATCH_BYTES."""
    batch: list[LmdbItem] = []
    size = 0
    for entry in entries:
        batch.append(LmdbItem(entry.key, codec.encode(entry.record), entry.shard))
        size += len(batch[-1].value)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


class _LmdbCopy(Copy):
    def __init__(self, reader: LmdbReader, records: int | None) -> None:
        self._reader, self._records = reader, records

    def check(self, record: RegionRecord, shard: str) -> Iterator[Problem]:
        path, key = self._reader.path, lmdb_key(record.img_id)
        try:
            stored = self._reader.read(key)
        except ValueError as error:
            yield Problem("lmdb", str(error))
            return
        if stored is None:
            yield Problem("lmdb", f"{path}: expected key {key.decode()!r} for {record.img_id} of {shard}, found none")
        elif names := differing_fields(self._reader.codec.kept(record), stored):
            differing = f"not the record of {record.img_id} in {shard}: {', '.join(names)} differ"
            yield Problem("lmdb", f"{path}, key {key.decode()!r}: {differing}")

    def check_rest(self, images: Sequence[ShardImage], whole: bool) -> Iterator[Problem]:
        path = self._reader.path
        try:
            stored, listed = list(self._reader.stored_keys()), self._reader.key_record()
        except Exception as error:  # lmdb's own errors are no ValueError
            yield Problem("lmdb", f"{path}: cannot be read: {error}")
            return
        yield from check_key_list(listed, stored, path)
        strangers = set(stored) - {lmdb_key(image.img_id) for image in images}
        if strangers:
            example = min(strangers).decode(errors="backslashreplace")
            yield Problem("lmdb", f"{path}: {len(strangers)} keys are of no image in the shards, {example!r} for one")
        if self._records is not None and self._records != len(stored):
            yield Problem("lmdb", f"{path}: expected {self._records} records ({SOURCE_FILE}), got {len(stored)}")
