"""UNITER's image LMDBs, read as UNITER reads them, with the real msgpack-numpy."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import msgpack
import msgpack_numpy
import numpy as np
import pytest

from region_features.exports.uniter import UniterExport
from tests.samples.buckets import BucketFileSystem
from tests.samples.exports import build, export_job, is_current
from tests.samples.lmdbs import TRAIN, write_set
from tests.samples.records import make_record, without_probabilities, write_shard
from transforms.exports import ExportJob

ADAPTIVE = {"min_boxes": 10, "max_boxes": 100, "conf_threshold": 0.2}
FIXED = {"min_boxes": 36, "max_boxes": 36, "conf_threshold": 0.2}


def uniter_job(folder: Path, settings: dict[str, Any], prefix: str = "", **options: Any) -> ExportJob:
    shards = {"train2014": (write_set(folder / "train", TRAIN, **options),)}
    return export_job(UniterExport(prefix), folder / "out", shards, settings=settings)


def read_plainly(img_dir: str, name: str, conf_th: float = 0.2, num_bb: int = 36) -> dict[str, Any]:
    """Read as UNITER's image database does: the folder's name from its settings, the first boxes of each image."""
    if conf_th == -1:
        folder, boxes = f"feat_numbb{num_bb}", num_bb
    else:
        folder = f"feat_th{conf_th}_max100_min10"
        boxes = json.loads(Path(img_dir, f"nbb_th{conf_th}_max100_min10.json").read_text())[name]
    with lmdb.open(f"{img_dir}/{folder}", readonly=True, create=False) as env, env.begin(buffers=True) as reading:
        names = json.loads(bytes(reading.get(b"__keys__") or b""))
        assert name in names and len(names) == reading.stat()["entries"] - 1
        dump = msgpack.loads(reading.get(name.encode("utf-8")), raw=False, object_hook=msgpack_numpy.decode)
    return {key: array[:boxes, ...] for key, array in dump.items()}


def assert_holds(dump: dict[str, Any], img_id: str, **options: Any) -> None:
    record = make_record(img_id, **options)
    order = np.argsort(-record.objects_conf, kind="stable")
    assert (np.diff(dump["conf"]) <= 0).all()
    expected = {
        "features": record.features,
        "conf": record.objects_conf,
        "soft_labels": record.cls_prob,
    }
    for name, array in expected.items():
        assert dump[name].dtype == np.float16
        np.testing.assert_array_equal(dump[name], array[order].astype(np.float16))
    x1, y1, x2, y2 = record.boxes[order].T
    relative = np.stack([x1 / 640, y1 / 480, x2 / 640, y2 / 480, (x2 - x1) / 640, (y2 - y1) / 480], axis=1)
    assert dump["norm_bb"].shape == (record.num_boxes, 6) and dump["norm_bb"].dtype == np.float16
    np.testing.assert_allclose(dump["norm_bb"], relative, atol=1e-3)


def test_a_plain_reader_gets_every_record_of_one_number_of_boxes(tmp_path: Path) -> None:
    job = uniter_job(tmp_path, FIXED)
    assert build(job)["records"] == len(TRAIN)
    place = f"{job.output}/uniter/train2014"
    for img_id in TRAIN:
        assert_holds(read_plainly(place, f"coco_{img_id.removeprefix('COCO_')}.npz", conf_th=-1), img_id)
    assert sorted(os.listdir(place)) == ["feat_numbb36", "feat_numbb36.source.json"]
    assert is_current(job)


def test_a_plain_reader_gets_as_many_boxes_as_an_image_has(tmp_path: Path) -> None:
    job = uniter_job(tmp_path, ADAPTIVE)
    build(job)
    place = f"{job.output}/uniter/train2014"
    for img_id in TRAIN:
        assert_holds(read_plainly(place, f"coco_{img_id.removeprefix('COCO_')}.npz"), img_id)
    rule = "th0.2_max100_min10"
    assert sorted(os.listdir(place)) == [f"feat_{rule}", f"feat_{rule}.source.json", f"nbb_{rule}.json"]
    assert is_current(job)
    Path(place, f"feat_{rule}", "data.mdb").write_bytes(b"cut")
    assert not is_current(job)


@pytest.mark.parametrize(
    ("img_id", "prefix", "name"),
    [
        ("COCO_val2014_000000000042", "", "coco_val2014_000000000042.npz"),
        ("COCO_val2014_000000000042", "coco_", "coco_val2014_000000000042.npz"),
        ("dev-0-1-img0", "nlvr2_", "nlvr2_dev-0-1-img0.npz"),
        ("dev-0-1-img0", "", "dev-0-1-img0.npz"),
    ],
)
def test_names_are_those_of_uniters_text_files(tmp_path: Path, img_id: str, prefix: str, name: str) -> None:
    shards = {"a": (write_set(tmp_path / "a", [img_id]),)}
    job = export_job(UniterExport(prefix), tmp_path / "out", shards, settings=FIXED)
    build(job)
    assert_holds(read_plainly(job.folder, name, conf_th=-1), img_id)


def test_more_boxes_than_the_name_promises_are_refused(tmp_path: Path) -> None:
    job = uniter_job(tmp_path, {**FIXED, "min_boxes": 2, "max_boxes": 2})
    with pytest.raises(ValueError, match=rf"train, image {TRAIN[0]}: expected at most 2 boxes .*, got 3, of which"):
        build(job)


def test_records_without_probabilities_are_refused(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a", [without_probabilities(make_record("x_1"))])
    job = export_job(UniterExport(), tmp_path / "out", {"photos": (shard,)}, settings=FIXED)
    with pytest.raises(ValueError, match="image x_1, field cls_prob: the output uniter needs it"):
        build(job)


def test_a_value_beyond_float16_is_named(tmp_path: Path) -> None:
    record = make_record("x_1")
    shard = write_shard(tmp_path / "a", [replace(record, features=record.features + np.float32(1e6))])
    job = export_job(UniterExport(), tmp_path / "out", {"photos": (shard,)}, settings=FIXED)
    with pytest.raises(ValueError, match=r"image x_1, field features: expected values within 65504 of zero"):
        build(job)


def test_a_name_too_long_for_a_key_is_refused() -> None:
    refuse = UniterExport("nlvr2_").refuse_id
    assert refuse("a" * 501) is None
    assert refuse("a" * 502) == "a name of more than 511 bytes with its prefix and `.npz`"


def test_files_in_folders_below_are_published_on_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BucketFileSystem, "folder", tmp_path)
    local = uniter_job(tmp_path, ADAPTIVE)
    job = replace(local, output="bucket://bucket")
    build(local)
    first = build(job)
    below = Path("uniter", "train2014", "feat_th0.2_max100_min10", "data.mdb")
    assert (tmp_path / "bucket" / below).read_bytes() == (tmp_path / "out" / below).read_bytes()
    before = (tmp_path / "bucket" / below).stat().st_ino
    assert build(job) == first and (tmp_path / "bucket" / below).stat().st_ino == before
