"""`coco_detections.hdf5` as the Meshed-Memory Transformer reads it, and the captioned images that it lacks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from region_features.background import in_background
from region_features.exports.base import (
    Copy,
    Export,
    OnProgress,
    ShardImage,
    Sources,
    Target,
    group_sets,
    require_fields,
)
from region_features.formats.hdf5 import create_hdf5, open_hdf5, same_array, write_dataset
from region_features.lmdb_store.write_behind import WriteBehind
from region_features.records.build_note import BuildNote
from region_features.records.coco import joint_name
from region_features.records.key import lmdb_key
from region_features.records.region_record import RegionRecord
from region_features.validation.record import Problem

_COCO = "coco"
_ARRAYS = ("features", "boxes", "cls_prob")
_RECORDS_AHEAD = 16
_RECORDS_A_REPORT = 64
_NAMED_AT_ONCE = 3


@dataclass(frozen=True)
class M2Export(Export):
    """For each image `ID_features`, `ID_boxes` and `ID_cls_prob`, ID being the number at the end of its name.

    `coco_detections.hdf5` holds COCO's training and validation images, `SET_detections.hdf5` any other set. Its reader
    puts random numbers in place of an image that it does not find, so that those with captions are named in
    `m2_missing.txt`, a line an image, which is there where captions are.
    """

    name = "m2"
    modules = ("h5py",)
    uses_captions = True
    needs = ("cls_prob",)

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name a file after its sets, and that of the missing images."""
        for group, members in group_sets(sets, partial(joint_name, joint=_COCO)):
            name, missing = f"{group}_detections.hdf5", f"{self.name if group == _COCO else group}_missing.txt"
            yield Target(name, members, (name,), self.name, optional=(missing,))

    def refuse_id(self, img_id: str) -> str | None:
        """Refuse names by which the reader looks nothing up."""
        return None if lmdb_key(img_id).isdigit() else "a name that does not end in `_` and a number, or is one"

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, Any]:
        """Write the arrays, then the names of the images that have captions and no record."""
        ids = _write_records(os.path.join(folder, target.name), sources, on_progress)
        counts: dict[str, Any] = {"records": len(ids)}
        if sources.read_captions is not None:
            captioned = [image.img_id for image in sources.read_captions()]
            missing = [img_id for img_id in captioned if img_id not in ids]
            if len(missing) < len(captioned):  # else the captions are of other sets
                (name,) = target.optional
                Path(folder, name).write_text("".join(f"{img_id}\n" for img_id in missing), encoding="utf-8")
                counts["missing"] = {"count": len(missing), "img_ids": missing}
        return counts

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Open the file."""
        return _M2Copy(os.path.join(folder, target.name), note.counts.get("records"))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how many records it holds, and name images that it lacks."""
        text = f"{row['records']} records"
        missing = row.get("missing")
        if missing and missing["count"]:
            some = ", ".join(missing["img_ids"][:_NAMED_AT_ONCE])
            more = ", ..." if missing["count"] > _NAMED_AT_ONCE else ""
            text += f", {missing['count']} images with captions have none ({some}{more})"
        return text


def _write_records(path: str, sources: Sources, on_progress: OnProgress) -> set[str]:
    ids: set[str] = set()
    with (
        closing(in_background(_records(sources), _RECORDS_AHEAD)) as records,
        create_hdf5(path) as file,
        WriteBehind(path) as write_behind,
    ):
        for record in records:
            for name, array in _datasets(record):
                write_dataset(file, name, array)
                write_behind.grew(array.nbytes)
            ids.add(record.img_id)
            if len(ids) % _RECORDS_A_REPORT == 0:
                on_progress("records_written", len(ids))
    on_progress("records_written", len(ids))
    return ids


def _records(sources: Sources) -> Iterator[RegionRecord]:
    for shard, example in sources.examples(sources.paths):
        require_fields(example.record, M2Export.needs, shard, M2Export.name)
        yield example.record


def _datasets(record: RegionRecord) -> Iterable[tuple[str, Any]]:
    return ((_name(record.img_id, array), getattr(record, array)) for array in _ARRAYS)


def _name(img_id: str, array: str) -> str:
    return f"{lmdb_key(img_id).decode()}_{array}"


class _M2Copy(Copy):
    def __init__(self, path: str, records: int | None) -> None:
        self._path, self._records, self._file = path, records, open_hdf5(path)

    def check(self, record: RegionRecord, shard: str) -> Iterator[Problem]:
        of_image = f"of {record.img_id} in {shard}"
        differing = []
        for name, array in _datasets(record):
            try:
                if name not in self._file:
                    yield Problem("m2", f"{self._path}: expected a dataset {name} {of_image}, found none")
                elif not same_array(self._file[name], array):
                    differing.append(name)
            except (OSError, RuntimeError, KeyError, TypeError) as error:  # what h5py makes of damaged bytes
                yield Problem("m2", f"{self._path}, dataset {name}: cannot be read: {error}; build it again")
        if differing:
            yield Problem("m2", f"{self._path}: not the record {of_image}: {', '.join(differing)} differ")

    def check_rest(self, images: Sequence[ShardImage], whole: bool) -> Iterator[Problem]:
        try:
            stored = set(self._file)
        except (OSError, RuntimeError) as error:
            yield Problem("m2", f"{self._path}: its names cannot be read: {error}; build it again")
            return
        strangers = stored - {_name(image.img_id, array) for image in images for array in _ARRAYS}
        if strangers and whole:
            message = f"{len(strangers)} datasets are of no image in the shards, {min(strangers)} for one"
            yield Problem("m2", f"{self._path}: {message}")
        if self._records is not None and len(stored) != len(_ARRAYS) * self._records:
            expected = f"{len(_ARRAYS)} datasets for each of {self._records} records (its note)"
            yield Problem("m2", f"{self._path}: expected {expected}, got {len(stored)}")
