"""HDF5 files for bottom-up-attention VQA and bilinear attention networks: a row an image, 36 boxes each."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.background import in_background
from region_features.exports.base import Copy, Export, OnProgress, ShardImage, Sources, Target, group_sets
from region_features.formats.hdf5 import create_hdf5, open_hdf5, same_array
from region_features.formats.pickles import load_restricted
from region_features.formats.spatial import relative_boxes
from region_features.lmdb_store.write_behind import WriteBehind
from region_features.records.build_note import BuildNote
from region_features.records.coco import vqa_name
from region_features.records.key import lmdb_key
from region_features.records.region_record import RegionRecord
from region_features.validation.record import Problem

BOXES = 36
_PROTOCOL = 2  # the programs are of Python 2
_RECORDS_AHEAD = 16
_RECORDS_A_REPORT = 64
_ROWS = ("image_features", "image_bb", "spatial_features")


@dataclass(frozen=True)
class ButdVqaExport(Export):
    """`train36.hdf5`, `train36_imgid2idx.pkl` and `train_ids.pkl`; the same for `val`, or `SET` for any other set.

    Images of fewer boxes, as the smallest have, are left out and named in `train36_left_out.txt`: the reader then ends
    with a KeyError in place of a wrong answer.
    """

    name = "butd-vqa"
    modules = ("h5py",)

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name the files of each set."""
        for name, members in group_sets(sets, vqa_name):
            files = (f"{name}{BOXES}.hdf5", f"{name}{BOXES}_imgid2idx.pkl", f"{name}_ids.pkl")
            yield Target(f"{name}{BOXES}", members, files, self.name, optional=(f"{name}{BOXES}_left_out.txt",))

    def refuse_settings(self, settings: Mapping[str, Any]) -> str | None:
        """Refuse any other number of boxes than 36."""
        fewest, most = (settings.get(name, BOXES) for name in ("min_boxes", "max_boxes"))
        if (fewest, most) == (BOXES, BOXES):
            return None
        return f"holds {BOXES} boxes of each image, and these settings give {fewest} to {most}"

    def refuse_id(self, img_id: str) -> str | None:
        """Refuse names without the number by which the reader looks an image up."""
        return None if lmdb_key(img_id).isdigit() else "a name that does not end in `_` and a number, or is one"

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, Any]:
        """Write rows in the order of the shards, then which image has which row."""
        path = os.path.join(folder, target.files[0])
        total = sum(len(sources.read_ids(shard)) for shard in sources.paths)
        rows, left_out = _write_rows(path, total, sources, on_progress)
        if total and not rows:
            raise ValueError(f"{sources.output}: none of {total} images has {BOXES} boxes; leave {self.name} out")
        for name, content in zip(target.files[1:], (rows, set(rows)), strict=True):
            Path(folder, name).write_bytes(pickle.dumps(content, _PROTOCOL))
        counts: dict[str, Any] = {"records": len(rows)}
        if left_out:
            text = "".join(f"{img_id}\n" for img_id in left_out)
            Path(folder, target.optional[0]).write_text(text, encoding="utf-8")
            counts["left_out"] = {"count": len(left_out), "img_ids": left_out}
        return counts

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Open the file and read which image has which row."""
        return _ButdVqaCopy(*(os.path.join(folder, name) for name in target.files))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how many records it holds, and how many images had too few boxes."""
        left_out = row.get("left_out", {}).get("count")
        return f"{row['records']} records" + (f", {left_out} images with too few boxes left out" if left_out else "")


def _arrays(record: RegionRecord) -> tuple[NDArray[np.float32], ...]:
    return record.features, record.boxes, relative_boxes(record)


def _write_rows(path: str, total: int, sources: Sources, on_progress: OnProgress) -> tuple[dict[int, int], list[str]]:
    rows: dict[int, int] = {}
    left_out: list[str] = []
    datasets: list[Any] = []
    with (
        closing(in_background(_records(sources), _RECORDS_AHEAD)) as records,
        create_hdf5(path) as file,
        WriteBehind(path) as write_behind,
    ):
        for record in records:
            if record.num_boxes < BOXES:
                left_out.append(record.img_id)
                continue
            arrays = _arrays(record)
            if not datasets:
                shapes = zip(_ROWS, arrays, strict=True)
                datasets = [
                    file.create_dataset(name, (total, *array.shape), "<f4", track_times=False) for name, array in shapes
                ]
            row = len(rows)
            for dataset, array in zip(datasets, arrays, strict=True):
                dataset[row] = array
                write_behind.grew(array.nbytes)
            rows[int(lmdb_key(record.img_id))] = row
            if len(rows) % _RECORDS_A_REPORT == 0:
                on_progress("records_written", len(rows))
    on_progress("records_written", len(rows))
    return rows, left_out


def _records(sources: Sources) -> Iterator[RegionRecord]:
    for shard, example in sources.examples(sources.paths):
        if example.record.num_boxes > BOXES:
            raise ValueError(
                f"{shard}, image {example.record.img_id}: expected {BOXES} boxes, got {example.record.num_boxes}; "
                f"leave {ButdVqaExport.name} out of --outputs"
            )
        yield example.record


class _ButdVqaCopy(Copy):
    def __init__(self, path: str, rows_path: str, ids_path: str) -> None:
        self._path, self._rows_path = path, rows_path
        self._file = open_hdf5(path)
        self._rows = load_restricted(Path(rows_path).read_bytes(), dict, "a pickled dict of rows", rows_path)
        admitted = {("__builtin__", "set"): set}  # Python 2's name
        self._ids = load_restricted(Path(ids_path).read_bytes(), set, "a pickled set of ids", ids_path, admitted)

    def check(self, record: RegionRecord, shard: str) -> Iterator[Problem]:
        row, of_image = self._rows.get(int(lmdb_key(record.img_id))), f"of {record.img_id} in {shard}"
        if record.num_boxes < BOXES:
            if row is not None:
                yield Problem("butd-vqa", f"{self._rows_path}: expected no row {of_image}, which has too few boxes")
            return
        if row is None:
            yield Problem("butd-vqa", f"{self._rows_path}: expected a row {of_image}, found none")
            return
        try:
            expected = zip(_ROWS, _arrays(record), strict=True)
            names = [name for name, array in expected if not same_array(self._file[name][row], array)]
        except (OSError, RuntimeError, KeyError, TypeError, ValueError, IndexError) as error:  # damaged bytes
            yield Problem("butd-vqa", f"{self._path}, row {row}: cannot be read: {error}; build it again")
            return
        if names:
            yield Problem("butd-vqa", f"{self._path}, row {row}: not those {of_image}: {', '.join(names)} differ")

    def check_rest(self, images: Sequence[ShardImage], whole: bool) -> Iterator[Problem]:
        if self._ids != self._rows.keys():
            yield Problem("butd-vqa", f"{self._rows_path}: its ids are not those in the set of ids beside it")
        strangers = self._rows.keys() - {int(lmdb_key(image.img_id)) for image in images}
        if strangers and whole:
            message = f"{len(strangers)} ids are of no image in the shards, {min(strangers)} for one"
            yield Problem("butd-vqa", f"{self._rows_path}: {message}")
