"""Parquet tables built from shards, read by pyarrow, pandas and Hugging Face's `datasets`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from region_features.exports import parquet
from region_features.exports.parquet import ParquetExport
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord
from tests.conftest import tree_bytes
from tests.samples.exports import build, export_job, is_current
from tests.samples.records import make_record, write_shard
from transforms.exports import ExportJob


def make_job(folder: Path, *shards: list[RegionRecord]) -> ExportJob:
    folder.mkdir(exist_ok=True)
    names = [f"photos-{number:05d}-of-{len(shards):05d}" for number in range(len(shards))]
    paths = [write_shard(folder / f"{name}.tfrecord", shard) for name, shard in zip(names, shards, strict=True)]
    return export_job(ParquetExport(), folder / "out", {"photos": tuple(paths)})


def records(*ids: str, boxes: int | None = None, **options: Any) -> list[RegionRecord]:
    return [make_record(img_id, number if boxes is None else boxes, **options) for number, img_id in enumerate(ids, 1)]


def tables(job: ExportJob) -> list[str]:
    return sorted(str(path) for path in Path(job.folder, "photos").iterdir())


def same(array: Any, expected: np.ndarray) -> bool:
    return (array.dtype, array.shape, array.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


@pytest.mark.parametrize("boxes", [3, None])
def test_datasets_reads_every_row_with_all_it_has(boxes: int | None, tmp_path: Path) -> None:
    expected = records("a_1", "b.2", "ü", boxes=boxes)
    job = make_job(tmp_path, expected[:2], expected[2:])
    row = build(job)
    assert [Path(path).name for path in tables(job)] == [
        "photos-00000-of-00002.parquet",
        "photos-00001-of-00002.parquet",
    ]
    assert (row["records"], row["tables"]) == (3, 2)
    read = datasets.load_dataset("parquet", data_files=tables(job), cache_dir=str(tmp_path / "cache"), split="train")
    assert len(read) == 3
    for item, record in zip(read.with_format("numpy"), expected, strict=True):
        for field in ARRAY_FIELDS:
            assert same(np.stack(item[field.name]), getattr(record, field.name)), field.name
    for item, record in zip(read, expected, strict=True):
        described = {name: item[name] for name in item if not hasattr(record, name) or name in ("img_id", "num_boxes")}
        assert described == {
            "img_id": record.img_id,
            "filename": f"{record.img_id}.jpg",
            "height": 480,
            "width": 640,
            "num_boxes": record.num_boxes,
            "captions": ["Ein Hund läuft. ", "a dog"],
            "caption_ids": [770337, 770338],
            "split": "val",
            "sha256": "ab" * 32,
        }
    if boxes:
        assert read.with_format("torch")[:2]["features"].shape == (2, 3, 16)


def test_pandas_reads_a_row(tmp_path: Path) -> None:
    (record,) = expected = records("a", boxes=3)
    job = make_job(tmp_path, expected)
    build(job)
    row = pandas.read_parquet(tables(job)[0]).iloc[0]
    assert same(np.stack(row["features"]), record.features) and list(row["captions"]) == ["Ein Hund läuft. ", "a dog"]


def kinds(job: ExportJob) -> dict[str, str]:
    return {field.name: str(field.type) for field in pq.read_schema(tables(job)[0])}


def test_lists_are_of_fixed_size_where_all_images_have_as_many_boxes(tmp_path: Path) -> None:
    job = make_job(tmp_path / "same", records("a", "b", boxes=3))
    build(job)
    item = "element: {} not null"
    boxes = f"fixed_size_list<{item.format('float')}>[4]"
    assert kinds(job)["boxes"] == f"fixed_size_list<{item.format(boxes)}>[3]"
    assert kinds(job)["objects_id"] == f"fixed_size_list<{item.format('int64')}>[3]"
    job = make_job(tmp_path / "other", records("a", "b"), records("c", boxes=1))
    build(job)
    assert kinds(job)["boxes"] == f"list<{item.format(boxes)}>"
    assert [pq.read_table(path).num_rows for path in tables(job)] == [2, 1]


@pytest.mark.parametrize("counts", [(0, 2), (2, 0), (0, 0)])
def test_images_without_boxes_are_rows_of_empty_lists(counts: tuple[int, int], tmp_path: Path) -> None:
    expected = [make_record(f"a_{number}", boxes) for number, boxes in enumerate(counts)]
    job = make_job(tmp_path, expected)
    build(job)
    rows = pq.read_table(tables(job)[0]).to_pylist()
    assert [len(row["features"]) for row in rows] == [row["num_boxes"] for row in rows] == list(counts)


def test_an_array_that_records_lack_has_no_column(tmp_path: Path) -> None:
    job = make_job(tmp_path, [replace(make_record("a"), attrs=np.zeros((3, 0), np.float32))])
    build(job)
    assert "attrs" not in kinds(job) and "cls_prob" in kinds(job)


def test_a_shard_without_images_is_a_table_without_rows(tmp_path: Path) -> None:
    job = make_job(tmp_path, [], records("a", boxes=2))
    build(job)
    assert [pq.read_table(path).num_rows for path in tables(job)] == [0, 1]
    job = make_job(tmp_path / "none", [])
    build(job)
    assert pq.read_table(tables(job)[0]).num_rows == 0


def test_another_width_is_named(tmp_path: Path) -> None:
    job = make_job(tmp_path, records("a", boxes=2), records("b", boxes=2, width=9))
    with pytest.raises(
        ValueError, match=r"photos-00001.*, image b, field features: expected the width 16 of .*, got 9"
    ):
        build(job)
    assert not os.path.exists(job.folder)


def test_row_groups_are_small_and_nothing_is_lost_between_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_GROUP_BYTES", 1000)
    expected = records(*"abcdefg", boxes=3)
    job = make_job(tmp_path, expected)
    build(job)
    table = pq.ParquetFile(tables(job)[0])
    assert table.num_row_groups == 3
    features = table.read().column("features").combine_chunks().flatten().flatten().to_numpy()
    assert features.tobytes() == b"".join(record.features.tobytes() for record in expected)


def test_the_same_shards_give_the_same_bytes(tmp_path: Path) -> None:
    job = make_job(tmp_path, records("a", "b"), records("c", "d"))
    build(job)
    again = replace(job, output=str(tmp_path / "again"))
    build(again)
    assert tree_bytes(Path(job.output)) == tree_bytes(Path(again.output))
    assert is_current(job)


def test_a_table_that_was_cut_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=rf"^{path}: expected a whole Parquet file, got: "):
        parquet.open_table(str(path))
