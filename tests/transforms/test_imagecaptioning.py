"""LMDBs read as ImageCaptioning.pytorch reads them through the package lmdbdict."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from region_features.exports.imagecaptioning import ImageCaptioningExport
from tests.samples.exports import build, export_job, is_current
from tests.samples.lmdbs import TRAIN, VAL, write_set
from tests.samples.records import make_record
from transforms.exports import ExportJob


def job_of(folder: Path, **options: Any) -> ExportJob:
    sets = (("train2014", TRAIN), ("val2014", VAL))
    shards = {name: (write_set(folder / name, ids, **options),) for name, ids in sets}
    return export_job(ImageCaptioningExport(), folder / "out", shards)


def read_plainly(path: str, image_id: int) -> Any:
    """Read as lmdbdict does: an LMDB that may be a file, keys as ASCII, values as they are; then an npz or npy file."""
    with (
        lmdb.open(path, subdir=os.path.isdir(path), readonly=True, lock=False, readahead=False) as env,
        env.begin() as transaction,
    ):
        value = transaction.get(str(image_id).encode("ascii"))
    assert value is not None
    content = np.load(io.BytesIO(value))
    return content if isinstance(content, np.ndarray) else content["feat"]


def test_a_plain_reader_gets_every_record(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    row = build(job)
    names = ["cocobu_att.lmdb", "cocobu_box.lmdb", "cocobu_fc.lmdb"]
    assert row["records"] == 10 and sorted(row["files"]) == names
    assert sorted(os.listdir(job.folder)) == sorted([*names, "cocobu.source.json"])
    for img_id in (*TRAIN, *VAL):
        record, number = make_record(img_id), int(img_id[-12:])
        att, box, fc = (read_plainly(f"{job.output}/imagecaptioning/{name}", number) for name in names)
        assert att.tobytes() == record.features.tobytes() and att.shape == (3, 16)
        assert box.tobytes() == record.boxes.tobytes() and box.shape == (3, 4)
        assert fc.dtype == np.float32 and fc.tobytes() == record.features.mean(0).tobytes()
    assert is_current(job)


def test_lmdbdict_finds_the_keys_and_what_they_are(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    build(job)
    for name in job.target.files:
        with lmdb.open(f"{job.folder}/{name}", subdir=False, readonly=True, lock=False) as env, env.begin() as reading:
            known = pickle.loads(reading.get(b"__keys__") or b"")
            assert set(known) == {str(int(img_id[-12:])) for img_id in (*TRAIN, *VAL)} and "10" in known
            methods = {key: pickle.loads(value) for key, value in reading.cursor() if key.startswith(b"__")}
            assert reading.stat()["entries"] == 10 + len(methods)
        del methods[b"__keys__"]
        assert methods == {
            b"__key_dumps__": "ascii",
            b"__key_loads__": "ascii",
            b"__value_dumps__": "identity",
            b"__value_loads__": "identity",
        }


def test_an_image_without_boxes_has_a_mean_of_zeros(tmp_path: Path) -> None:
    shards = {"photos": (write_set(tmp_path / "a", ["x_1"], boxes=0),)}
    job = export_job(ImageCaptioningExport(), tmp_path / "out", shards)
    build(job)
    assert read_plainly(f"{job.folder}/photosbu_att.lmdb", 1).shape == (0, 16)
    np.testing.assert_array_equal(read_plainly(f"{job.folder}/photosbu_fc.lmdb", 1), np.zeros(16, np.float32))


def test_names_that_the_reader_cannot_ask_for_are_refused() -> None:
    refuse = ImageCaptioningExport().refuse_id
    assert (refuse("café_1"), refuse("photo")) == (None, None)
    assert refuse("café") == "a name that is not ASCII"
    assert refuse("__keys__") == "a name that its LMDBs reserve"
