"""TSVs built from shards, left alone while current, rebuilt when the shards change."""

from __future__ import annotations

import csv
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from region_features.exports.tsv import TsvExport
from region_features.formats.tsv import encode_tsv_row
from region_features.formats.volta import decode_volta, encode_volta
from region_features.records.region_record import FIELD_NAMES
from tests.samples.exports import build, export_job, is_current
from tests.samples.records import assert_same, make_record, write_shard
from transforms.exports import ExportJob


@pytest.fixture
def job(tmp_path: Path) -> ExportJob:
    return tsv_job(tmp_path, 13)


def tsv_job(folder: Path, columns: int) -> ExportJob:
    records = [make_record(f"photo_{number}") for number in range(5)]
    shards = (write_shard(folder / "a", records[:3]), write_shard(folder / "b", records[3:]))
    settings = {"min_boxes": 36, "max_boxes": 36}
    return export_job(TsvExport(columns), folder / "out", {"train2014": shards}, settings=settings)


def tsv_of(job: ExportJob) -> Path:
    return Path(job.folder, "train_obj36-36.tsv")


@pytest.mark.parametrize("columns", [10, 13])
def test_rows_come_in_shard_order(tmp_path: Path, columns: int) -> None:
    job = tsv_job(tmp_path, columns)
    row = build(job)
    expected = b"".join(encode_tsv_row(make_record(f"photo_{number}"), columns) for number in range(5))
    assert tsv_of(job).read_bytes() == expected
    files = {"train_obj36-36.tsv": len(expected)}
    source = {"sets": ["train2014"], "source_digest": "d"}
    assert row == {"tsv_columns": columns, "rows": 5, "files": files, **source}


def test_voltas_convert_script_makes_of_it_what_the_lmdb_holds(job: ExportJob) -> None:
    """The script reads csv rows of thirteen columns, and pickles them as they are."""
    build(job)
    csv.field_size_limit(sys.maxsize)
    with open(tsv_of(job), newline="") as table:
        values = [pickle.dumps(dict(row)) for row in csv.DictReader(table, FIELD_NAMES, delimiter="\t")]
    assert len(values) == 5
    for number, value in enumerate(values):
        record = make_record(f"photo_{number}")
        assert pickle.loads(value) == pickle.loads(encode_volta(record))
        assert_same(decode_volta(value, "x"), record)


def test_a_current_file_is_left_alone_and_any_change_builds_it_anew(job: ExportJob, tmp_path: Path) -> None:
    build(job)
    assert is_current(job)
    assert not is_current(tsv_job(tmp_path, 10))
    assert not is_current(replace(job, source_digest="d2"))
    tsv_of(job).write_bytes(b"cut")
    assert not is_current(job)
    Path(f"{tsv_of(job)}.source.json").write_text("[]")
    assert not is_current(job)
    assert is_current(job)


def test_a_damaged_shard_leaves_the_old_file(job: ExportJob) -> None:
    build(job)
    before = tsv_of(job).read_bytes()
    shard = Path(job.shards["train2014"][1])
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(ValueError, match=shard.name):
        build(replace(job, source_digest="d2"))
    assert tsv_of(job).read_bytes() == before
    assert sorted(os.listdir(job.folder)) == ["train_obj36-36.tsv", "train_obj36-36.tsv.source.json"]
    assert os.listdir(job.output) == [os.path.basename(job.folder)]


def test_files_are_named_after_the_set_and_the_rule_of_the_boxes() -> None:
    export = TsvExport()
    adaptive = {"min_boxes": 10, "max_boxes": 100}
    names = [target.name for target in export.targets(["train2014", "val2014", "test2015", "photos"], adaptive)]
    assert names == ["train_obj10-100.tsv", "valid_obj10-100.tsv", "test_obj10-100.tsv", "photos_obj10-100.tsv"]
    (target,) = export.targets(["photos"], {**adaptive, "boxes_sha256": "abc"})
    assert target.name == "photos_boxes.tsv"
