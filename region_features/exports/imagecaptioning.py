"""LMDBs for ImageCaptioning.pytorch and AoANet: features, their mean, and boxes, each in a file of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from region_features.exports.base import Copy, Export, OnProgress, ShardImage, Sources, Target, group_sets
from region_features.exports.merged_lmdb import (
    Entry,
    LmdbLayout,
    LmdbValuesCopy,
    naming_lack_of_room,
    open_writer,
    write_merged,
)
from region_features.formats.imagecaptioning import LMDB_FORM, encode_att, encode_box, encode_fc, lmdbdict_records
from region_features.formats.npz import decode_file
from region_features.lmdb_store.reader import DATA_FILE
from region_features.lmdb_store.writer import LmdbItem
from region_features.records.build_note import BuildNote
from region_features.records.coco import joint_name
from region_features.records.key import lmdb_key
from region_features.records.region_record import RegionRecord
from region_features.validation.record import Problem

_LAYOUTS = {
    part: LmdbLayout(lmdb_key, encode, lmdbdict_records)
    for part, encode in (("att", encode_att), ("fc", encode_fc), ("box", encode_box))
}


@dataclass(frozen=True)
class ImageCaptioningExport(Export):
    """`cocobu_att.lmdb`, `cocobu_fc.lmdb` and `cocobu_box.lmdb` for COCO's training and validation images.

    Any other set has `SETbu_att.lmdb` and so on. They are single files, as the program makes them itself.
    """

    imagecaptioning_form: str = LMDB_FORM

    name = "imagecaptioning"

    @property
    def requested(self) -> bool:
        """Whether this form is asked for."""
        return self.imagecaptioning_form == LMDB_FORM

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name the three LMDBs of each group of sets, which are built together."""
        for group, members in group_sets(sets, partial(joint_name, joint="coco")):
            files = tuple(f"{group}bu_{part}.lmdb" for part in _LAYOUTS)
            yield Target(f"{group}bu", members, files, self.name)

    def refuse_id(self, img_id: str) -> str | None:
        """Refuse names that the reader cannot ask for."""
        key = lmdb_key(img_id)
        if not key.isascii():
            return "a name that is not ASCII"
        return "a name that its LMDBs reserve" if key in lmdbdict_records([]) else None

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, Any]:
        """Write the three files in one pass over the shards."""

        def encode(entry: Entry) -> Sequence[LmdbItem]:
            return [LmdbItem(entry.key, layout.encode(entry.record), entry.shard) for layout in _LAYOUTS.values()]

        folders = [os.path.join(folder, part) for part in _LAYOUTS]
        with naming_lack_of_room(folder, sources), ExitStack() as stack:
            for path in folders:
                os.mkdir(path)
            writers = [stack.enter_context(open_writer(path, sources)) for path in folders]
            records = write_merged(writers, sources, encode, on_progress)
            for writer in writers:
                writer.finish(lmdbdict_records)
        for path, name in zip(folders, target.files, strict=True):
            os.replace(os.path.join(path, DATA_FILE), os.path.join(folder, name))
            os.rmdir(path)
        return {"records": records}

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Open the three files."""
        records = note.counts.get("records")
        paths = [os.path.join(folder, name) for name in target.files]
        layouts = zip(paths, _LAYOUTS.values(), strict=True)
        return _Copies([LmdbValuesCopy(self.name, path, layout, decode_file, records) for path, layout in layouts])

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how many records each holds."""
        return f"{row['records']} records each"


class _Copies(Copy):
    def __init__(self, copies: Sequence[Copy]) -> None:
        self._copies = copies

    def check(self, record: RegionRecord, shard: str) -> Iterator[Problem]:
        for copy in self._copies:
            yield from copy.check(record, shard)

    def check_rest(self, images: Sequence[ShardImage], whole: bool) -> Iterator[Problem]:
        for copy in self._copies:
            yield from copy.check_rest(images, whole)
