"""LMDB folders, in VOLTA's own form and others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
from region_features.exports.merged_lmdb import LmdbLayout, build_lmdb
from region_features.lmdb_store.reader import DATA_FILE, LmdbReader
from region_features.lmdb_store.value_codecs import SOURCE_FILE, VALUE_CODECS, VOLTA
from region_features.records.build_note import BuildNote
from region_features.records.coco import lmdb_name
from region_features.records.key import KEYS_RECORD, lmdb_key
from region_features.records.region_record import RegionRecord
from region_features.validation.record import Problem, check_key_list, differing_fields

LMDBS_FOLDER = f"{FEATURES_FOLDER}/volta"


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
        codec = VALUE_CODECS[self.lmdb_form]

        def key_list(keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
            return {KEYS_RECORD: codec.encode_keys(keys)}

        return build_lmdb(folder, sources, LmdbLayout(lmdb_key, codec.encode, key_list), on_progress)

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Open the LMDB."""
        return _LmdbCopy(LmdbReader(folder), note.counts.get("records"))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how many records it holds, in which form."""
        return f"{row['records']} records, {row['lmdb_form']}"


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
