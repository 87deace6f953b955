"""An LMDB read as MMF reads it, and as ViLBERT's multi-task code (12-in-1) does."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from region_features.exports.mmf import MmfExport
from tests.samples.exports import build, export_job, is_current
from tests.samples.lmdbs import TRAIN, VAL, write_set
from tests.samples.records import make_record, without_probabilities, write_shard
from transforms.exports import ExportJob


def mmf_job(folder: Path, **options: Any) -> ExportJob:
    sets = (("train2014", TRAIN), ("val2014", VAL))
    shards = {name: (write_set(folder / name, ids, **options),) for name, ids in sets}
    return export_job(MmfExport(), folder / "out", shards)


def read_as_mmf(path: str, feature_path: str) -> dict[str, Any]:
    """MMF's reader: the number after the last `_`, where that is a key, else the whole path without `.npy`."""
    with (
        lmdb.open(path, subdir=os.path.isdir(path), readonly=True, lock=False, readahead=False, meminit=False) as env,
        env.begin(write=False, buffers=True) as transaction,
    ):
        indices = {key: index for index, key in enumerate(pickle.loads(transaction.get(b"keys") or b""))}
        split = feature_path.split(".npy")[0]
        try:
            key = str(int(split.split("_")[-1])).encode()
            indices[key]
        except (ValueError, KeyError):
            key = split.encode()
            indices[key]
        item: dict[str, Any] = pickle.loads(transaction.get(key) or b"")
        return item


def read_as_vilbert(path: str, image_id: int | str) -> tuple[Any, Any]:
    """ViLBERT's reader: the mean of all regions first, boxes relative to the image's size with their area."""
    with (
        lmdb.open(path, max_readers=1, readonly=True, lock=False, readahead=False, meminit=False) as env,
        env.begin(write=False) as transaction,
    ):
        key = str(image_id).encode()
        assert key in pickle.loads(transaction.get(b"keys") or b"")
        item = pickle.loads(transaction.get(key) or b"")
    height, width = int(item["image_h"]), int(item["image_w"])
    assert item["image_id"] == str(image_id) and item["num_boxes"] == len(item["boxes"])
    features, boxes = item["features"].reshape(item["num_boxes"], -1), item["boxes"].reshape(-1, 4)
    place = np.zeros((len(boxes), 5), np.float32)
    place[:, :4] = boxes
    place[:, 4] = (place[:, 3] - place[:, 1]) * (place[:, 2] - place[:, 0]) / (float(width) * float(height))
    place[:, :4] /= [width, height, width, height]
    return np.concatenate([[features.sum(axis=0) / len(features)], features]), place


def test_both_readers_get_every_record(tmp_path: Path) -> None:
    job = mmf_job(tmp_path)
    assert build(job)["records"] == len(TRAIN) + len(VAL)
    path = f"{job.output}/mmf/trainval.lmdb"
    for img_id in (*TRAIN, *VAL):
        record = make_record(img_id)
        item = read_as_mmf(path, f"{img_id}.npy")
        assert item["feature_path"] == img_id
        assert (item["image_height"], item["image_width"], item["num_boxes"]) == (480, 640, 3)
        for name, array in (
            ("features", record.features),
            ("bbox", record.boxes),
            ("objects", record.objects_id),
            ("cls_prob", record.cls_prob),
        ):
            assert (item[name].dtype, item[name].tobytes()) == (array.dtype, array.tobytes()), name
            assert item[name].shape == array.shape and item[name].flags.writeable
        features, place = read_as_vilbert(path, int(img_id[-12:]))
        assert features[1:].tobytes() == record.features.tobytes()
        np.testing.assert_array_equal(place[:, :4], record.boxes / np.array([640, 480, 640, 480], np.float32))
    assert is_current(job)


def test_arrays_of_two_names_are_stored_once(tmp_path: Path) -> None:
    job = mmf_job(tmp_path, boxes=36, width=2048, classes=1601)
    build(job)
    record = make_record(TRAIN[0], boxes=36, width=2048, classes=1601)
    with lmdb.open(job.folder, readonly=True, lock=False) as env, env.begin() as transaction:
        value = transaction.get(b"10") or b""
    assert len(value) < record.features.nbytes + record.boxes.nbytes + record.cls_prob.nbytes + 2000
    item = pickle.loads(value)
    assert item["bbox"] is item["boxes"]


def test_a_name_without_a_number_is_found_by_itself(tmp_path: Path) -> None:
    job = export_job(MmfExport(), tmp_path / "out", {"photos": (write_set(tmp_path / "a", ["café_au_lait"]),)})
    build(job)
    path = f"{job.output}/mmf/photos.lmdb"
    assert read_as_mmf(path, "café_au_lait.npy")["feature_path"] == "café_au_lait"
    assert read_as_vilbert(path, "café_au_lait")[0].shape == (4, 16)


def test_records_without_probabilities_have_everything_else(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a", [without_probabilities(make_record("x_1"))])
    job = export_job(MmfExport(), tmp_path / "out", {"photos": (shard,)})
    build(job)
    item = read_as_mmf(job.folder, "x_1.npy")
    assert "cls_prob" not in item and item["features"].shape == (3, 16)
