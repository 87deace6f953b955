"""`coco_detections.hdf5`, read as the Meshed-Memory Transformer reads it, and the images that it lacks."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from beam_pipeline.pipeline import main
from region_features.exports.base import ShardImage
from region_features.exports.m2 import M2Export
from region_features.formats.tsv import encode_tsv_row
from region_features.records.build_note import BuildNote
from tests.conftest import TINY_WEIGHTS, karpathy_row, tree_bytes
from tests.samples.exports import build, export_job, is_current
from tests.samples.fakes import FakeHandler, fake_prepare
from tests.samples.lmdbs import TRAIN, VAL, write_set
from tests.samples.pinned import pin
from tests.samples.records import make_record, without_probabilities, write_shard
from transforms.exports import ExportJob
from transforms.input_files import PinnedFile

NAME = "coco_detections.hdf5"
NOTE = BuildNote("d", {}, {}, {"records": len(TRAIN) + len(VAL)}, {})


def captions_of(path: Path, *img_ids: str) -> PinnedFile:
    rows = [karpathy_row("f", f"{img_id}.jpg", number, "train") for number, img_id in enumerate(img_ids)]
    path.write_text(json.dumps({"images": rows, "dataset": "coco"}))
    return pin(path)


def m2_job(folder: Path, captions: PinnedFile | None = None, **options: Any) -> ExportJob:
    shards = {
        name: (write_set(folder / name, ids, **options),) for name, ids in (("train2014", TRAIN), ("val2014", VAL))
    }
    return export_job(M2Export(), folder / "out", shards, captions=captions)


def read_plainly(path: str, filename: str, sort_by_prob: bool = False, most: int = 50) -> NDArray[np.float32]:
    """Read as the program's data field does; it draws random numbers where this raises a KeyError."""
    image_id = int(filename.split("_")[-1].split(".")[0])
    with h5py.File(path, "r") as file:
        features = file[f"{image_id}_features"][()]
        if sort_by_prob:
            features = features[np.argsort(np.max(file[f"{image_id}_cls_prob"][()], -1))[::-1]]
    padding = np.zeros((max(0, most - features.shape[0]), features.shape[1]))
    return np.concatenate([features[:most], padding], axis=0).astype(np.float32)


def test_a_plain_reader_gets_every_record(tmp_path: Path) -> None:
    job = m2_job(tmp_path)
    assert build(job)["records"] == len(TRAIN) + len(VAL)
    path = f"{job.output}/m2/{NAME}"
    for img_id in (*TRAIN, *VAL):
        record = make_record(img_id)
        features = read_plainly(path, f"{img_id}.jpg")
        assert features.shape == (50, 16) and not features[3:].any()
        assert features[:3].tobytes() == record.features.tobytes()
        order = np.argsort(record.cls_prob.max(-1))[::-1]
        np.testing.assert_array_equal(read_plainly(path, f"{img_id}.jpg", True)[:3], record.features[order])
    with h5py.File(path, "r") as file:
        boxes = file["1000_boxes"][()]
        assert boxes.tobytes() == make_record(VAL[1]).boxes.tobytes() and boxes.dtype == np.float32
        assert len(file) == 3 * (len(TRAIN) + len(VAL))


def test_the_bytes_depend_on_the_content_alone(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        job = m2_job(tmp_path / name, boxes=40, width=300)
        build(job)
        contents.append(Path(job.folder, NAME).read_bytes())
        time.sleep(1.1)  # HDF5 stores times in whole seconds
    assert contents[0] == contents[1]


def test_images_that_have_captions_and_no_record_are_named(tmp_path: Path) -> None:
    lost = ["COCO_train2014_000000000777", "COCO_val2014_000000000888"]
    job = m2_job(tmp_path, captions_of(tmp_path / "captions.json", lost[0], *TRAIN, *VAL, lost[1]))
    row = build(job)
    assert row["missing"] == {"count": 2, "img_ids": lost}
    assert Path(job.folder, "m2_missing.txt").read_text() == "".join(f"{img_id}\n" for img_id in lost)
    assert M2Export().describe(row) == f"10 records, 2 images with captions have none ({lost[0]}, {lost[1]})"
    assert sorted(row["files"]) == [NAME, "m2_missing.txt"]
    assert is_current(job)


def test_without_captions_no_file_says_that_nothing_is_missing(tmp_path: Path) -> None:
    captions = captions_of(tmp_path / "captions.json", "COCO_train2014_000000000777", *TRAIN)
    build(m2_job(tmp_path, captions))
    job = m2_job(tmp_path)
    assert "missing" not in build(job)
    assert sorted(os.listdir(job.folder)) == [NAME, f"{NAME}.source.json"]
    all_there = m2_job(tmp_path, captions_of(tmp_path / "captions.json", *TRAIN))
    assert build(all_there)["missing"] == {"count": 0, "img_ids": []}
    assert Path(job.folder, "m2_missing.txt").read_bytes() == b""


def test_captions_of_other_sets_miss_nothing(tmp_path: Path) -> None:
    shards = {"photos": (write_set(tmp_path / "a", ["x_1"]),)}
    captions = captions_of(tmp_path / "captions.json", *TRAIN)
    job = export_job(M2Export(), tmp_path / "out", shards, captions=captions)
    assert "missing" not in build(job)
    assert sorted(os.listdir(job.folder)) == ["photos_detections.hdf5", "photos_detections.hdf5.source.json"]


def test_an_image_without_boxes_has_empty_arrays(tmp_path: Path) -> None:
    job = export_job(M2Export(), tmp_path / "out", {"photos": (write_set(tmp_path / "a", ["x_1"], boxes=0),)})
    build(job)
    assert not read_plainly(f"{job.folder}/photos_detections.hdf5", "x_1.jpg").any()


def test_records_without_probabilities_are_refused(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "shard", [without_probabilities(make_record("x_1"))])
    job = export_job(M2Export(), tmp_path / "out", {"photos": (shard,)})
    with pytest.raises(ValueError, match=r"shard, image x_1, field cls_prob: the output m2 needs it"):
        build(job)
    assert not os.path.exists(job.folder)


def test_shards_with_captions_need_the_captions_again(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = corpus.parent / "out"
    flags = ["--corpus", str(corpus), "--output", str(out), "--outputs"]
    assert main([*flags, "tfrecord", "--weights", str(TINY_WEIGHTS)], FakeHandler(), fake_prepare) == 0
    assert main(["--output", str(out), "--outputs", "m2"]) == 2
    error = capsys.readouterr().err
    assert "--outputs m2: the shards were made with captions: expected --captions FILE again" in error
    assert error.count("\n") == 1
    assert main([*flags, "m2"]) == 0
    assert "1 images with captions have none (COCO_val2014_000000000777)" in capsys.readouterr().out


def test_a_name_without_a_number_is_refused(tmp_path: Path) -> None:
    export = M2Export()
    assert [export.refuse_id(img_id) is None for img_id in ("x_0012", "007", "x_12a", "café")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_missing_package_is_one_line_before_any_work(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "beam_pipeline.preflight.export_checks.missing_modules", lambda extra: ["h5py"] if extra == "formats" else []
    )
    out = corpus.parent / "out"
    flags = ["--corpus", str(corpus), "--output", str(out), "--weights", str(TINY_WEIGHTS), "--outputs"]
    assert main([*flags, "tfrecord,m2"], FakeHandler(), fake_prepare) == 2
    error = capsys.readouterr().err
    assert "--outputs m2: h5py not installed: expected the extra `formats`; pip install" in error
    assert error.count("\n") == 1 and not (out / "tfrecord").exists()
    assert main([*flags, "tfrecord,tsv6"], FakeHandler(), fake_prepare) == 0


def test_a_worker_without_the_package_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = m2_job(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match="h5py not installed: expected the extra `formats`; pip install"):
        build(job)


def test_what_is_no_hdf5_file_is_named(tmp_path: Path) -> None:
    job = m2_job(tmp_path)
    build(job)
    Path(job.folder, NAME).write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match=rf"{NAME}: expected an HDF5 file, got: "):
        M2Export().open(job.target, job.folder, NOTE)


def test_a_copy_is_compared_name_by_name(tmp_path: Path) -> None:
    job = m2_job(tmp_path)
    build(job)
    with h5py.File(f"{job.folder}/{NAME}", "r+") as file:
        file["10_boxes"][0, 0] += 1
        del file["11_features"]
        file["77_features"] = np.zeros((1, 16), np.float32)
    copy = M2Export().open(job.target, job.folder, NOTE)
    problems = [problem.message for img_id in TRAIN for problem in copy.check(make_record(img_id), "s")]
    problems += [p.message for p in copy.check_rest([ShardImage("s", img_id, "") for img_id in (*TRAIN, *VAL)], True)]
    path = f"{job.folder}/{NAME}"
    assert problems == [
        f"{path}: not the record of {TRAIN[0]} in s: 10_boxes differ",
        f"{path}: expected a dataset 11_features of {TRAIN[2]} in s, found none",
        f"{path}: 1 datasets are of no image in the shards, 77_features for one",
    ]


def test_shards_without_probabilities_are_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "old.tsv"
    rows.write_bytes(b"".join(encode_tsv_row(make_record(img_id), 10) for img_id in TRAIN))
    out = tmp_path / "out"
    assert main(["--import_tsv", str(rows), "--output", str(out), "--outputs", "tfrecord,tsv6"]) == 0
    before = tree_bytes(out)
    capsys.readouterr()
    assert main(["--output", str(out), "--outputs", "tsv6,m2"]) == 2
    error = capsys.readouterr().err
    assert f"image {TRAIN[0]}, field cls_prob: the output m2 needs it, and the file that this record was" in error
    assert error.count("\n") == 1 and tree_bytes(out) == before
