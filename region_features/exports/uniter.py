"""UNITER's image LMDBs, and the numbers of boxes beside them where these differ."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from region_features.exports.base import Copy, Export, OnProgress, ShardImage, Sources, Target, require_fields
from region_features.exports.merged_lmdb import (
    Entry,
    LmdbLayout,
    LmdbValuesCopy,
    naming_lack_of_room,
    open_writer,
    write_merged,
)
from region_features.formats.uniter import decode_uniter, encode_key_list, encode_uniter, uniter_name
from region_features.lmdb_store.reader import DATA_FILE
from region_features.lmdb_store.writer import LmdbItem
from region_features.records.build_note import NOTE_SUFFIX, BuildNote
from region_features.records.json_text import parse_json
from region_features.records.key import MAX_KEY_BYTES
from region_features.records.region_record import RegionRecord
from region_features.validation.record import Problem

_MOST = re.compile(r"(?:numbb|max)([0-9]+)")


@dataclass(frozen=True)
class UniterExport(Export):
    """`SET/feat_numbb36/data.mdb`, or `SET/feat_th0.2_max100_min10/data.mdb` and `SET/nbb_th0.2_max100_min10.json`.

    The first where all images have the same number of boxes, by the run's settings.
    """

    uniter_prefix: str = ""

    name = "uniter"
    modules = ("msgpack",)
    needs = ("objects_conf", "cls_prob")

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name an LMDB after its set and the rule that chose the boxes."""
        fewest, most = settings.get("min_boxes"), settings.get("max_boxes")
        rule = f"th{settings.get('conf_threshold')}_max{most}_min{fewest}"
        folder, counts = (f"feat_numbb{most}", ()) if fewest == most else (f"feat_{rule}", (f"nbb_{rule}.json",))
        for set_name in sets:
            files = (f"{folder}/{DATA_FILE}", *counts)
            yield Target(set_name, (set_name,), files, f"{self.name}/{set_name}", folder + NOTE_SUFFIX)

    def refuse_id(self, img_id: str) -> str | None:
        """Refuse names that are no key of an LMDB any more with prefix and suffix."""
        fits = len(uniter_name(img_id, self.uniter_prefix).encode()) <= MAX_KEY_BYTES
        return None if fits else f"a name of more than {MAX_KEY_BYTES} bytes with its prefix and `.npz`"

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, Any]:
        """Write the LMDB, then the numbers of boxes."""
        most, boxes = _most_boxes(target), {}

        def encode(entry: Entry) -> Sequence[LmdbItem]:
            record = entry.record
            require_fields(record, self.needs, entry.shard, self.name)
            if most is not None and record.num_boxes > most:
                raise ValueError(
                    f"{entry.shard}, image {record.img_id}: expected at most {most} boxes (the run's --max_boxes), got "
                    f"{record.num_boxes}, of which the reader of {target.files[0]} would drop some; leave {self.name} "
                    "out of --outputs, or make the shards with the --min_boxes and --max_boxes that their records have"
                )
            name = uniter_name(record.img_id, self.uniter_prefix)
            boxes[name] = record.num_boxes
            return [LmdbItem(name.encode(), encode_uniter(record), entry.shard)]

        place = os.path.dirname(os.path.join(folder, target.files[0]))
        os.mkdir(place)
        # The names' order is not that of the shards, which is that of the numbers in them.
        with naming_lack_of_room(folder, sources), open_writer(place, sources, ascending=False) as writer:
            records = write_merged([writer], sources, encode, on_progress)
            writer.finish(encode_key_list)
        for name in target.files[1:]:
            Path(folder, name).write_text(json.dumps(boxes, sort_keys=True), encoding="ascii")
        return {"records": records}

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Open the LMDB and read the numbers of boxes."""
        prefix = str(note.settings["uniter_prefix"])
        return _UniterCopy(target, folder, prefix, note.counts.get("records"))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how many records it holds."""
        return f"{row['records']} records"


def _most_boxes(target: Target) -> int | None:
    found = _MOST.search(target.files[0])
    return int(found[1]) if found else None


def _read_boxes(path: str) -> dict[str, Any]:
    boxes = parse_json(Path(path).read_bytes())
    if not isinstance(boxes, dict):
        raise ValueError(f"{path}: expected a map of names to numbers of boxes, got something else; build it again")
    return boxes


class _UniterCopy(LmdbValuesCopy):
    def __init__(self, target: Target, folder: str, prefix: str, records: int | None) -> None:
        def key(img_id: str) -> bytes:
            return uniter_name(img_id, prefix).encode()

        path = os.path.dirname(os.path.join(folder, target.files[0]))
        super().__init__("uniter", path, LmdbLayout(key, encode_uniter, encode_key_list), decode_uniter, records)
        self._name_of = key
        self._boxes_path = os.path.join(folder, target.files[-1])
        self._boxes = _read_boxes(self._boxes_path) if len(target.files) > 1 else None

    def check(self, record: RegionRecord, shard: str) -> Iterator[Problem]:
        yield from super().check(record, shard)
        name = self._name_of(record.img_id).decode()
        if self._boxes is not None and self._boxes.get(name) != record.num_boxes:
            message = f"expected {record.num_boxes} for {name} of {shard}, got {self._boxes.get(name)}"
            yield Problem("uniter", f"{self._boxes_path}: {message}")

    def check_rest(self, images: Sequence[ShardImage], whole: bool) -> Iterator[Problem]:
        yield from super().check_rest(images, whole)
        strangers = set(self._boxes or ()) - {self._name_of(image.img_id).decode() for image in images}
        if strangers and whole:
            message = f"{len(strangers)} names are of no image in the shards, {min(strangers)} for one"
            yield Problem("uniter", f"{self._boxes_path}: {message}")
