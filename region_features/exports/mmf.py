"""LMDBs that MMF and ViLBERT's multi-task code (12-in-1) read alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from region_features.exports.base import Copy, Export, OnProgress, Sources, Target, group_sets
from region_features.exports.merged_lmdb import LmdbLayout, LmdbValuesCopy, build_lmdb
from region_features.formats.mmf import decode_mmf, encode_mmf
from region_features.formats.volta import encode_keys
from region_features.lmdb_store.reader import DATA_FILE
from region_features.lmdb_store.value_codecs import SOURCE_FILE
from region_features.records.build_note import BuildNote
from region_features.records.coco import joint_name
from region_features.records.key import KEYS_RECORD, lmdb_key


def _key_list(keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
    return {KEYS_RECORD: encode_keys(keys)}


_LAYOUT = LmdbLayout(lmdb_key, encode_mmf, _key_list)


@dataclass(frozen=True)
class MmfExport(Export):
    """`trainval.lmdb` for COCO's training and validation images, `SET.lmdb` for any other set."""

    name = "mmf"

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name an LMDB after its sets."""
        for group, members in group_sets(sets, partial(joint_name, joint="trainval")):
            folder = f"{group}.lmdb"
            yield Target(folder, members, (DATA_FILE,), f"{self.name}/{folder}", SOURCE_FILE)

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, Any]:
        """Write `data.mdb`."""
        return build_lmdb(folder, sources, _LAYOUT, on_progress)

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Open the LMDB."""
        return LmdbValuesCopy(self.name, folder, _LAYOUT, decode_mmf, note.counts.get("records"))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how many records it holds."""
        return f"{row['records']} records"
