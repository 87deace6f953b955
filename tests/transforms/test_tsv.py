"""TSVs built from shards, left alone while current, rebuilt when the shards change."""

from __future__ import annotations

import csv
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from region_features.formats.tsv import encode_tsv_row
from region_features.formats.volta import decode_volta, encode_volta
from region_features.records.region_record import FIELD_NAMES
from tests.samples.records import assert_same, make_record, write_shard
from transforms.tsv import BuildTsv, TsvJob, TsvResult, build_tsv


@pytest.fixture
def job(tmp_path: Path) -> TsvJob:
    records = [make_record(f"photo_{number}") for number in range(5)]
    shards = (write_shard(tmp_path / "a", records[:3]), write_shard(tmp_path / "b", records[3:]))
    return TsvJob(str(tmp_path / "out" / "train_obj36-36.tsv"), shards, 13, "d1")


@pytest.mark.parametrize("columns", [10, 13])
def test_rows_in_shard_order(job: TsvJob, columns: int) -> None:
    result = build_tsv(replace(job, columns=columns))
    wanted = b"".join(encode_tsv_row(make_record(f"photo_{number}"), columns) for number in range(5))
    assert Path(job.output).read_bytes() == wanted
    assert result == TsvResult(job.output, 5, len(wanted), skipped=False)


def test_the_older_convert_makes_of_them_what_the_lmdb_holds(job: TsvJob) -> None:
    """VOLTA's convert script: csv rows of thirteen columns, pickled as they are."""
    build_tsv(job)
    csv.field_size_limit(sys.maxsize)
    with open(job.output, newline="") as table:
        values = [pickle.dumps(dict(row)) for row in csv.DictReader(table, FIELD_NAMES, delimiter="\t")]
    for number, value in enumerate(values):
        record = make_record(f"photo_{number}")
        assert pickle.loads(value) == pickle.loads(encode_volta(record))
        assert_same(decode_volta(value, "x"), record)
    assert len(values) == 5


def test_current_file_is_left_alone_and_another_is_rebuilt(job: TsvJob) -> None:
    build_tsv(job)
    before = Path(job.output).stat()
    assert build_tsv(job).skipped
    assert Path(job.output).stat().st_mtime_ns == before.st_mtime_ns
    assert not build_tsv(replace(job, columns=10)).skipped
    assert not build_tsv(replace(job, source_digest="d2")).skipped
    Path(job.output).write_bytes(b"cut")
    assert not build_tsv(job).skipped
    Path(job.output + ".source.json").write_text("[]")
    assert not build_tsv(job).skipped


def test_damaged_shard_leaves_the_old_file(job: TsvJob) -> None:
    build_tsv(job)
    before = Path(job.output).read_bytes()
    shard = Path(job.shards[1])
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(ValueError, match=shard.name):
        build_tsv(replace(job, source_digest="d2"))
    assert Path(job.output).read_bytes() == before
    assert [path.name for path in Path(job.output).parent.iterdir()] == [Path(job.output).name]


def test_transform_builds_each(job: TsvJob) -> None:
    with TestPipeline() as pipeline:
        results = pipeline | beam.Create([job]) | BuildTsv()
        rows = results | "Rows" >> beam.Map(lambda result: (result.rows, result.skipped))
        assert_that(rows, equal_to([(5, False)]))
