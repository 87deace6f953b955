"""The `files` form of ImageCaptioning.pytorch's features, read as its loader reads a folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from region_features.exports.imagecaptioning_files import ImageCaptioningFilesExport
from region_features.records.region_record import RegionRecord
from tests.conftest import tree_bytes
from tests.samples.exports import build, sources_of
from tests.samples.records import make_record, write_shard
from transforms.exports import ExportJob

SETS = {
    "train2014": [make_record("COCO_train2014_000000000009", 2)],
    "val2014": [make_record("COCO_val2014_000000000042", 3), make_record("COCO_val2014_000000000010", 0)],
}


def jobs_of(folder: Path, sets: dict[str, list[RegionRecord]]) -> list[ExportJob]:
    shards = {name: (write_shard(folder / name, records),) for name, records in sets.items()}
    export = ImageCaptioningFilesExport()
    targets = export.targets(list(shards), {})
    return [ExportJob(export, target, str(folder / "out"), shards, None, "d") for target in targets]


def load(folder: Path, key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As HybridLoader reads folders: the id and the suffix make the name."""
    att = np.load(os.path.join(folder, "cocobu_att", key + ".npz"))["feat"]
    return att, np.load(folder / "cocobu_fc" / f"{key}.npy"), np.load(folder / "cocobu_box" / f"{key}.npy")


def test_its_loader_finds_every_image_by_its_id(tmp_path: Path) -> None:
    for job in jobs_of(tmp_path, SETS):
        assert build(job)["images"] == 3
    folder = tmp_path / "out" / "imagecaptioning"
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["cocobu_att", "cocobu_box", "cocobu_fc"]
    for records in SETS.values():
        for record in records:
            att, fc, box = load(folder, str(int(record.img_id[-12:])))
            assert att.dtype == fc.dtype == box.dtype == np.float32
            assert np.array_equal(att, record.features) and np.array_equal(box, record.boxes)
            mean = record.features.mean(axis=0) if record.num_boxes else np.zeros(16, np.float32)
            assert np.array_equal(fc, mean)


def test_other_sets_have_folders_of_their_own_and_ids_without_number_their_name(tmp_path: Path) -> None:
    for job in jobs_of(tmp_path, {"photos": [make_record("dög")]}):
        build(job)
    names = [name for name in tree_bytes(tmp_path / "out" / "imagecaptioning") if "/" in name]
    assert names == ["photosbu_att/dög.npz", "photosbu_box/dög.npy", "photosbu_fc/dög.npy"]


def test_the_same_shards_give_the_same_bytes(tmp_path: Path) -> None:
    for job in jobs_of(tmp_path, SETS):
        build(job)
        build(replace(job, output=str(tmp_path / "again")))
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "again")


def test_two_images_with_one_number_are_refused(tmp_path: Path) -> None:
    shards = [write_shard(tmp_path / name, [make_record(f"{name}_7")]) for name in "ab"]
    export = ImageCaptioningFilesExport()
    target = next(export.targets(["photos"], {}))
    (tmp_path / "built").mkdir()
    with pytest.raises(
        ValueError, match=r"/b, image b_7: expected a file 7.npz of its own, and another image has that"
    ):
        export.build(target, sources_of(*shards), str(tmp_path / "built"), lambda what, total: None)


def test_a_name_too_long_for_a_file_is_refused() -> None:
    assert ImageCaptioningFilesExport().refuse_id("a" * 251) is None
    assert ImageCaptioningFilesExport().refuse_id("a" * 252) == "an id of more than 251 bytes"
