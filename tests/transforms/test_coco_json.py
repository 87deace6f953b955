"""COCO's detection JSON built from shards, read by pycocotools."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from region_features.exports.coco_json import CocoJsonExport
from region_features.formats.coco_json import find_lines
from region_features.names import visual_genome
from region_features.records.region_record import RegionRecord
from tests.conftest import tree_bytes
from tests.samples.exports import build, export_job, is_current
from tests.samples.records import make_record, write_shard
from transforms.exports import ExportJob

IDS = ["COCO_val2014_000000000010", "COCO_val2014_000000000042", "COCO_val2014_000000000007"]


def make_job(folder: Path, *shards: list[RegionRecord], monkeypatch: pytest.MonkeyPatch) -> ExportJob:
    folder.mkdir(exist_ok=True)
    paths = tuple(write_shard(folder / f"shard-{number}", shard) for number, shard in enumerate(shards))
    ids = {path: tuple(record.img_id for record in shard) for path, shard in zip(paths, shards, strict=True)}
    monkeypatch.setattr("transforms.exports._read_ids", ids.__getitem__)
    return export_job(CocoJsonExport(), folder / "out", {"val2014": paths})


def path_of(job: ExportJob) -> Path:
    return Path(job.folder, "val2014.json")


def with_network(record: RegionRecord, objects: int = 1600, attributes: int = 400) -> RegionRecord:
    """Gives a record the widths of a network with so many classes."""
    arrays: dict[str, Any] = {
        "cls_prob": np.zeros((record.num_boxes, objects + 1), np.float32),
        "attrs": np.zeros((record.num_boxes, attributes + 1), np.float32),
    }
    return replace(record, **arrays)


def test_pycocotools_finds_every_box_with_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [with_network(make_record(img_id, boxes)) for boxes, img_id in enumerate(IDS)]
    job = make_job(tmp_path, records[:2], records[2:], monkeypatch=monkeypatch)
    row = build(job)
    assert (row["images"], row["boxes"]) == (3, 3)
    coco = COCO(str(path_of(job)))
    assert sorted(coco.getImgIds()) == [7, 10, 42] and len(coco.getCatIds()) == 1600
    assert coco.loadImgs(42)[0] == {"id": 42, "file_name": f"{IDS[1]}.jpg", "width": 640, "height": 480}
    assert sorted(coco.getAnnIds()) == [1, 2, 3]
    for record in records:
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=int(record.img_id[-12:])))
        assert len(annotations) == record.num_boxes
        for index, annotation in enumerate(annotations):
            x, y, width, height = annotation["bbox"]
            assert np.allclose([x, y, x + width, y + height], record.boxes[index], atol=0.011)
            assert annotation["area"] == pytest.approx(width * height, rel=0.01, abs=5)
            assert annotation["score"] == pytest.approx(record.objects_conf[index], abs=1e-4)
            (category,) = coco.loadCats(annotation["category_id"])
            assert category["name"] == visual_genome().object_name(record.objects_id[index])
            assert annotation["category_id"] == record.objects_id[index] + 1
            assert annotation["attribute"] == visual_genome().attribute_name(record.attrs_id[index])
            assert annotation["attribute_score"] == pytest.approx(record.attrs_conf[index], abs=1e-4)


def test_another_network_has_numbers_for_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_record("a_7", boxes=2, classes=6)
    job = make_job(tmp_path, [record], monkeypatch=monkeypatch)
    build(job)
    content = json.loads(path_of(job).read_bytes())
    assert [row["name"] for row in content["categories"]] == [f"class {number}" for number in range(1, 6)]
    assert [row["id"] for row in content["categories"]] == [1, 2, 3, 4, 5]
    assert "attribute" not in content["annotations"][0]


def test_images_without_number_have_their_place_as_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path, [make_record("12"), make_record("dög")], monkeypatch=monkeypatch)
    build(job)
    images = json.loads(path_of(job).read_bytes())["images"]
    assert [(row["id"], row["file_name"]) for row in images] == [(1, "12.jpg"), (2, "dög.jpg")]


@pytest.mark.parametrize("boxes", [[], [0], [0, 0]])
def test_a_set_without_boxes_or_images_is_whole_json(
    boxes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [make_record(f"a_{number}", count) for number, count in enumerate(boxes)]
    job = make_job(tmp_path, records, monkeypatch=monkeypatch)
    build(job)
    content = json.loads(path_of(job).read_bytes())
    assert (len(content["images"]), content["annotations"], content["categories"]) == (len(boxes), [], [])


def test_the_same_shards_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path, [make_record(img_id) for img_id in IDS], monkeypatch=monkeypatch)
    build(job)
    again = replace(job, output=str(tmp_path / "again"))
    build(again)
    assert tree_bytes(Path(job.output)) == tree_bytes(Path(again.output))
    assert is_current(job)


@pytest.mark.parametrize("data", [b"", b"{}\n", b'{"annotations": []}\n'])
def test_another_file_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with (
        open(tmp_path / "a.json", "rb") as stream,
        pytest.raises(ValueError, match=r"^x: expected annotations, images"),
    ):
        list(find_lines(stream, "x"))
