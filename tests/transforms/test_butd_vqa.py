"""HDF5 files and pickles, read as bottom-up-attention VQA and bilinear attention networks read them."""

from __future__ import annotations

import os
import pickle
import pickletools
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from beam_pipeline.pipeline import main
from region_features.exports.base import Copy, ShardImage
from region_features.exports.butd_vqa import ButdVqaExport
from region_features.records.build_note import BuildNote
from region_features.records.stats import STATS_SUFFIX, ShardStats
from tests.conftest import TINY_WEIGHTS, write_photo
from tests.samples.exports import build, export_job, is_current
from tests.samples.fakes import FakeHandler, fake_prepare
from tests.samples.lmdbs import TRAIN
from tests.samples.records import make_record, write_shard
from transforms.exports import ExportJob

ALL_36 = dict.fromkeys(TRAIN, 36)
SMALL = TRAIN[2]


def butd_job(folder: Path, boxes_of: dict[str, int], set_name: str = "train2014") -> ExportJob:
    """Records with these numbers of boxes, and the stats that tell how many there are."""
    folder.mkdir(exist_ok=True)
    shard = write_shard(folder / "shard", [make_record(img_id, boxes=boxes) for img_id, boxes in boxes_of.items()])
    stats = ShardStats("shard", {}, "", tuple(boxes_of), {}, (), 0, os.path.getsize(shard), "", "")
    Path(shard + STATS_SUFFIX).write_bytes(stats.to_json())
    return export_job(ButdVqaExport(), folder / "out", {set_name: (shard,)})


def read_plainly(root: str, name: str) -> tuple[dict[int, int], dict[str, Any]]:
    """Read as the programs' dataset does: which image has which row, and the rows."""
    with open(os.path.join(root, f"{name}36_imgid2idx.pkl"), "rb") as stream:
        rows = pickle.load(stream)
    with h5py.File(os.path.join(root, f"{name}36.hdf5"), "r") as file:
        return rows, {field: np.array(file.get(field)) for field in file}


def test_a_plain_reader_gets_every_record(tmp_path: Path) -> None:
    job = butd_job(tmp_path, ALL_36)
    assert build(job)["records"] == len(TRAIN)
    rows, fields = read_plainly(f"{job.output}/butd-vqa", "train")
    assert {name: (array.shape, array.dtype) for name, array in fields.items()} == {
        "image_bb": ((6, 36, 4), np.float32),
        "image_features": ((6, 36, 16), np.float32),
        "spatial_features": ((6, 36, 6), np.float32),
    }
    assert sorted(rows) == sorted(int(img_id[-12:]) for img_id in TRAIN) and sorted(rows.values()) == list(range(6))
    for img_id in TRAIN:
        record, row = make_record(img_id, boxes=36), rows[int(img_id[-12:])]
        assert fields["image_features"][row].tobytes() == record.features.tobytes()
        assert fields["image_bb"][row].tobytes() == record.boxes.tobytes()
        x1, y1, x2, y2 = record.boxes.T
        relative = np.stack([x1 / 640, y1 / 480, x2 / 640, y2 / 480, (x2 - x1) / 640, (y2 - y1) / 480], axis=1)
        np.testing.assert_allclose(fields["spatial_features"][row], relative, rtol=1e-6)
    assert pickle.loads(Path(job.folder, "train_ids.pkl").read_bytes()) == set(rows)
    assert is_current(job)


def test_python_2_loads_the_pickles(tmp_path: Path) -> None:
    job = butd_job(tmp_path, ALL_36)
    build(job)
    for name in ("train36_imgid2idx.pkl", "train_ids.pkl"):
        opcodes = list(pickletools.genops(Path(job.folder, name).read_bytes()))
        assert max(opcode.proto for opcode, _, _ in opcodes) == 2
        named = [argument for opcode, argument, _ in opcodes if opcode.name == "GLOBAL"]
        assert named in ([], ["__builtin__ set"])


def test_the_bytes_depend_on_the_content_alone(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        job = butd_job(tmp_path / name, ALL_36)
        build(job)
        contents.append([Path(job.folder, file).read_bytes() for file in job.target.files])
        time.sleep(1.1)  # HDF5 stores times in whole seconds
    assert contents[0] == contents[1]


def test_images_with_too_few_boxes_are_left_out_and_named(tmp_path: Path) -> None:
    job = butd_job(tmp_path, {**ALL_36, SMALL: 35})
    row = build(job)
    assert (row["records"], row["left_out"]) == (5, {"count": 1, "img_ids": [SMALL]})
    assert Path(job.folder, "train36_left_out.txt").read_text() == f"{SMALL}\n"
    assert ButdVqaExport().describe(row) == "5 records, 1 images with too few boxes left out"
    rows, fields = read_plainly(job.folder, "train")
    assert int(SMALL[-12:]) not in rows and sorted(rows.values()) == list(range(5))
    for img_id in set(TRAIN) - {SMALL}:
        stored = fields["image_features"][rows[int(img_id[-12:])]]
        assert stored.tobytes() == make_record(img_id, boxes=36).features.tobytes()
    assert problems_of(opened(job), {**ALL_36, SMALL: 35}) == []


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (37, rf"shard, image {TRAIN[0]}: expected 36 boxes, got 37"),
        (3, "none of 6 images has 36 boxes; leave butd-vqa"),
    ],
)
def test_records_of_other_numbers_of_boxes_are_refused(tmp_path: Path, boxes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(butd_job(tmp_path, dict.fromkeys(TRAIN, boxes)))


@pytest.mark.parametrize(("fewest", "most"), [(10, 100), (100, 100)])
def test_other_settings_are_refused_before_any_work(
    fewest: int, most: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photo(tmp_path / "photos" / "p_1.png", 1)
    flags = ["--images", tmp_path / "photos", "--weights", TINY_WEIGHTS, "--output", tmp_path / "out"]
    flags += ["--min_boxes", fewest, "--max_boxes", most, "--outputs", "tfrecord,butd-vqa"]
    assert main([str(flag) for flag in flags], FakeHandler(), fake_prepare) == 2
    error = capsys.readouterr().err
    expected = f"--outputs butd-vqa: it holds 36 boxes of each image, and these settings give {fewest} to {most}; leave"
    assert expected in error and error.count("\n") == 1
    assert not (tmp_path / "out" / "tfrecord").exists()


def test_files_are_named_after_the_set() -> None:
    targets = ButdVqaExport().targets(["train2014", "val2014", "test2015", "photos"], {})
    assert [target.files[0] for target in targets] == ["train36.hdf5", "val36.hdf5", "test201536.hdf5", "photos36.hdf5"]


def opened(job: ExportJob) -> Copy:
    return ButdVqaExport().open(job.target, job.folder, BuildNote("d", {}, {}, {}, {}))


def problems_of(copy: Copy, boxes_of: dict[str, int]) -> list[str]:
    records = [make_record(img_id, boxes=boxes) for img_id, boxes in boxes_of.items()]
    problems = [problem for record in records for problem in copy.check(record, "s")]
    return [p.message for p in (*problems, *copy.check_rest([ShardImage("s", name, "") for name in boxes_of], True))]


def test_a_copy_is_compared_row_by_row(tmp_path: Path) -> None:
    job = butd_job(tmp_path, ALL_36)
    build(job)
    assert problems_of(opened(job), ALL_36) == []
    path, rows_path = f"{job.folder}/train36.hdf5", f"{job.folder}/train36_imgid2idx.pkl"
    with h5py.File(path, "r+") as file:
        file["image_bb"][0, 0, 0] += 1
    rows = pickle.loads(Path(rows_path).read_bytes())
    del rows[100]
    Path(rows_path).write_bytes(pickle.dumps({**rows, 777: 1, 9: 99}, 2))
    first, lost, beyond, ids, strange = problems_of(opened(job), ALL_36)
    assert first == f"{path}, row 0: not those of {TRAIN[0]} in s: image_bb differ"
    assert lost == f"{rows_path}: expected a row of {TRAIN[1]} in s, found none"
    assert beyond.startswith(f"{path}, row 99: cannot be read: ")
    assert ids == f"{rows_path}: its ids are not those in the set of ids beside it"
    assert strange == f"{rows_path}: 1 ids are of no image in the shards, 777 for one"


def test_a_pickle_that_runs_is_refused(tmp_path: Path) -> None:
    class Strange:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (print, ("must not run",))

    job = butd_job(tmp_path, ALL_36)
    build(job)
    Path(job.folder, "train_ids.pkl").write_bytes(pickle.dumps(Strange()))
    with pytest.raises(ValueError, match=r"train_ids.pkl: expected a pickled set of ids, got .*builtins.print"):
        opened(job)
