"""Files for OpenVQA built from shards, read as its loaders read them."""

from __future__ import annotations

import glob
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from region_features.exports.openvqa import OpenVqaExport
from tests.conftest import tree_bytes
from tests.samples.exports import build, export_job, is_current
from tests.samples.records import make_record, write_shard
from transforms.exports import ExportJob

IDS = ["COCO_val2014_000000000010", "COCO_val2014_000000000042", "COCO_val2014_000000000009"]


@pytest.fixture
def job(tmp_path: Path) -> ExportJob:
    records = [make_record(img_id, boxes=number) for number, img_id in enumerate(IDS, 1)]
    shards = (write_shard(tmp_path / "a", records[:2]), write_shard(tmp_path / "b", records[2:]))
    return export_job(OpenVqaExport(), tmp_path / "out", {"val2014": shards})


def test_its_loaders_find_every_image_under_its_number(job: ExportJob) -> None:
    """As `img_feat_path_load` and `load_img_feats` of MCAN do it."""
    assert build(job)["images"] == 3
    paths = {}
    for path in glob.glob(f"{job.output}/openvqa/val2014/" + "*.npz"):
        number = str(int(path.split("/")[-1].split("_")[-1].split(".")[0]))
        paths[number] = path
    assert sorted(paths) == ["10", "42", "9"]
    for boxes, img_id in enumerate(IDS, 1):
        expected = make_record(img_id, boxes=boxes)
        loaded = np.load(paths[str(int(img_id[-12:]))])
        features = loaded["x"].transpose((1, 0))
        assert features.dtype == np.float32 and np.array_equal(features, expected.features)
        assert np.array_equal(loaded["bbox"], expected.boxes)
        assert (loaded["image_h"], loaded["image_w"], loaded["num_bbox"]) == (480, 640, boxes)
        assert len(loaded.files) == 5


def test_the_features_lie_transposed_in_the_file(job: ExportJob, tmp_path: Path) -> None:
    build(job)
    with zipfile.ZipFile(f"{job.folder}/val2014/{IDS[0]}.jpg.npz") as archive, archive.open("x.npy") as stream:
        assert np.lib.format.read_magic(stream) == (1, 0)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    assert (shape, fortran) == ((16, 1), False) and dtype == np.float32


def test_the_same_shards_give_the_same_bytes(job: ExportJob, tmp_path: Path) -> None:
    build(job)
    again = replace(job, output=str(tmp_path / "again"))
    build(again)
    assert tree_bytes(Path(job.output)) == tree_bytes(Path(again.output))
    assert is_current(job)


def test_an_image_without_boxes_has_empty_arrays(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a", [make_record("a_7", boxes=0)])
    job = export_job(OpenVqaExport(), tmp_path / "out", {"photos": (shard,)})
    build(job)
    loaded = np.load(f"{job.folder}/photos/a_7.jpg.npz")
    assert loaded["x"].shape == (16, 0) and loaded["bbox"].shape == (0, 4) and loaded["num_bbox"] == 0


def test_two_images_with_one_file_name_are_refused(tmp_path: Path) -> None:
    shards = tuple(write_shard(tmp_path / name, [make_record("a_7")]) for name in "ab")
    with pytest.raises(
        ValueError, match=r"/b, image a_7: expected a file a_7.jpg.npz of its own, and another image has"
    ):
        build(export_job(OpenVqaExport(), tmp_path / "out", {"photos": shards}))


def test_a_name_too_long_for_a_file_is_refused() -> None:
    assert OpenVqaExport().refuse_id("a" * 247) is None
    assert OpenVqaExport().refuse_id("ü" * 124) == "an id of more than 247 bytes"
