"""TSVs of six columns, read as the programs read them that were written for the authors' own files."""

from __future__ import annotations

import base64
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from region_features.exports.base import Export, Target
from region_features.exports.tsv6 import Tsv6Export
from tests.samples.exports import build, export_job, is_current
from tests.samples.lmdbs import TRAIN, VAL, write_set
from tests.samples.records import make_record
from transforms.exports import ExportJob

FIELDS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
FIXED = {"min_boxes": 36, "max_boxes": 36}


def targets_of(export: Export, *sets: str, **settings: Any) -> list[Target]:
    return list(export.targets(sets, {**FIXED, **settings}))


@pytest.fixture
def job(tmp_path: Path) -> ExportJob:
    shards = {
        "train2014": (write_set(tmp_path / "train", TRAIN, width=2048),),
        "val2014": (write_set(tmp_path / "val", VAL, width=2048),),
    }
    return export_job(Tsv6Export(), tmp_path / "out", shards, settings=FIXED)


def read_plainly(path: str) -> dict[int, dict[str, Any]]:
    """Read as the converters of the programs do that train on the authors' own files."""
    csv.field_size_limit(sys.maxsize)
    rows = {}
    with open(path, newline="") as table:
        for item in csv.DictReader(table, FIELDS, delimiter="\t"):
            boxes = int(item["num_boxes"])
            arrays = {
                name: np.frombuffer(base64.b64decode(item[name]), dtype=np.float32).reshape((boxes, -1))
                for name in ("boxes", "features")
            }
            sizes = {name: int(item[name]) for name in ("image_w", "image_h", "num_boxes")}
            rows[int(item["image_id"])] = {**sizes, **arrays}
    return rows


def test_a_plain_reader_gets_every_record(job: ExportJob) -> None:
    assert build(job)["rows"] == len(TRAIN) + len(VAL)
    rows = read_plainly(f"{job.output}/tsv6/trainval_resnet101_faster_rcnn_genome_36.tsv")
    assert sorted(rows) == sorted(int(img_id[-12:]) for img_id in (*TRAIN, *VAL))
    for img_id in (*TRAIN, *VAL):
        record, row = make_record(img_id, width=2048), rows[int(img_id[-12:])]
        assert (row["image_w"], row["image_h"], row["num_boxes"]) == (640, 480, 3)
        assert row["boxes"].tobytes() == record.boxes.tobytes()
        assert row["features"].tobytes() == record.features.tobytes() and row["features"].shape == (3, 2048)


def test_an_id_that_ends_in_no_number_stands_as_it_is(tmp_path: Path) -> None:
    job = export_job(Tsv6Export(), tmp_path / "out", {"photos": (write_set(tmp_path / "a", ["café", "007"]),)})
    build(job)
    rows = Path(job.folder, job.target.name).read_bytes().splitlines()
    assert [row.split(b"\t")[0].decode() for row in rows] == ["café", "7"]


def test_an_image_without_boxes_has_empty_arrays(tmp_path: Path) -> None:
    shards = {"photos": (write_set(tmp_path / "a", ["photo_1"], boxes=0),)}
    job = export_job(Tsv6Export(), tmp_path / "out", shards)
    build(job)
    assert Path(job.folder, job.target.name).read_bytes() == b"1\t640\t480\t0\t\t\n"


def test_a_current_file_is_left_alone(job: ExportJob) -> None:
    build(job)
    assert is_current(job)


@pytest.mark.parametrize(
    ("sets", "settings", "names"),
    [
        (("train2014", "val2014"), {}, ["trainval_resnet101_faster_rcnn_genome_36.tsv"]),
        (
            ("test2015", "photos"),
            {},
            ["test2015_resnet101_faster_rcnn_genome_36.tsv", "photos_resnet101_faster_rcnn_genome_36.tsv"],
        ),
        (("val2014",), {"min_boxes": 10, "max_boxes": 100}, ["trainval_resnet101_faster_rcnn_genome.tsv"]),
        (("photos",), {"boxes_sha256": "abc"}, ["photos_resnet101_faster_rcnn_genome.tsv"]),
    ],
)
def test_files_are_named_as_the_authors_named_theirs(
    sets: tuple[str, ...], settings: dict[str, Any], names: list[str]
) -> None:
    assert [target.name for target in targets_of(Tsv6Export(), *sets, **settings)] == names
