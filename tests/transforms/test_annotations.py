"""Captions and given boxes joined with their images, and the published annotation files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline  # pytest collects what is called Test
from apache_beam.testing.util import assert_that, equal_to

from region_features.records.item import CaptionedImage
from region_features.records.plan import ImageRef, ShardKey
from tests.samples.captions import dataset_json, val_row
from tests.samples.pinned import pin
from transforms.annotations import (
    JoinAnnotations,
    WriteAnnotationFiles,
    read_captions,
    read_given_boxes,
    write_annotation_files,
)

SHARD = ShardKey("photos", 0, 1, 3)


def test_annotation_files_are_published(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_bytes(dataset_json(val_row(1), None, val_row(2, "test"), val_row(3, "test")))
    (tmp_path / "ids.txt").write_text("3\n")
    out = tmp_path / "annotations"
    names = [f"{name}_ann.jsonl" for name in ("train", "valid", "test", "test1k")]
    with Pipeline() as pipeline:
        uris = pipeline | beam.Create([pin(tmp_path / "coco.json")])
        sizes = uris | WriteAnnotationFiles(str(out), pin(tmp_path / "ids.txt"))
        assert_that(sizes | beam.Keys(), equal_to(names))
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert (out / "valid_ann.jsonl").read_bytes() == b""
    assert [json.loads(line)["id"] for line in (out / "test_ann.jsonl").open()] == [2, 3]
    assert [json.loads(line)["id"] for line in (out / "test1k_ann.jsonl").open()] == [3]


def caption_ids(element: tuple[Any, Any]) -> tuple[Any, list[tuple[str, str, int]]]:
    shard, images = element
    return shard, sorted((i.ref.set_name, i.ref.img_id, i.captions.coco_id if i.captions else -1) for i in images)


def test_captions_meet_their_images_by_id_and_gather_by_shard(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_bytes(dataset_json(val_row(1), val_row(2, "test"), None, val_row(9)))
    stem = "COCO_val2014_00000000000"
    first, second = ShardKey("val2014", 0, 2, 2), ShardKey("val2014", 1, 2, 1)
    other = ShardKey("copy", 0, 1, 1)
    images = [
        (f"{stem}2", (second, ImageRef("val2014", f"{stem}2", "c", 1))),
        (f"{stem}1", (first, ImageRef("val2014", f"{stem}1", "a", 1))),
        ("stranger", (first, ImageRef("val2014", "stranger", "b", 1))),
        (f"{stem}1", (other, ImageRef("copy", f"{stem}1", "d", 1))),
    ]
    expected = [
        (tuple(first), [("val2014", f"{stem}1", 1), ("val2014", "stranger", -1)]),
        (tuple(second), [("val2014", f"{stem}2", 2)]),
        (tuple(other), [("copy", f"{stem}1", 1)]),
    ]
    with Pipeline() as pipeline:
        joined = pipeline | beam.Create(images) | JoinAnnotations(pin(tmp_path / "coco.json")) | beam.Map(caption_ids)
        assert_that(joined, equal_to(expected))


def test_without_files_no_image_has_captions_or_boxes() -> None:
    image = ImageRef("photos", "a", "photos/a.jpg", 1)
    with Pipeline() as pipeline:
        joined = pipeline | beam.Create([("a", (SHARD, image))]) | JoinAnnotations(None)
        assert_that(
            joined | beam.MapTuple(lambda key, images: (key, list(images))),
            equal_to([(tuple(SHARD), [CaptionedImage(image, None, None)])]),
        )


def test_files_that_were_replaced_after_the_check_are_refused(tmp_path: Path) -> None:
    captions, ids, boxes = (tmp_path / name for name in ("coco.json", "ids.txt", "b.jsonl"))
    captions.write_bytes(dataset_json(val_row(1, "test")))
    ids.write_text("1\n")
    boxes.write_text('{"img_id": "a", "boxes": [[1, 2, 3, 4]]}\n')
    checked = [pin(path) for path in (captions, ids, boxes)]
    readers: list[Callable[[], Any]] = [
        lambda: list(read_captions(checked[0])),
        lambda: list(write_annotation_files(checked[0], str(tmp_path / "out"), checked[1])),
        lambda: list(read_given_boxes(checked[2])),
    ]
    for path, read in zip((captions, ids, boxes), readers, strict=True):
        read()
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        with pytest.raises(ValueError, match=re.escape(str(path)) + ".*expected the content that was checked before"):
            read()
        path.write_bytes(content)
        read()


def boxes_and_problems(element: tuple[Any, Any]) -> list[tuple[str, Any, str]]:
    images = sorted(element[1], key=lambda image: image.ref.img_id)
    return [(image.ref.img_id, image.boxes.boxes.tolist(), image.boxes.problem) for image in images]


def test_given_boxes_meet_their_images_by_id(tmp_path: Path) -> None:
    box = [1, 2, 3, 4]
    rows = {"b": [box, box], "stranger": [box], "c": [[1, 2, 1, 4]]}
    lines = [json.dumps({"img_id": img_id, "boxes": boxes}) for img_id, boxes in rows.items()]
    (tmp_path / "b.jsonl").write_text("\n".join([lines[0], "torn", *lines[1:]]))
    images = [(name, (SHARD, ImageRef("photos", name, f"{name}.jpg", 1))) for name in ("c", "a", "b")]
    expected = [
        ("a", [], "no boxes given"),
        ("b", [box, box], ""),
        ("c", [], "box 0: expected x1 < x2 and y1 < y2, got [1, 2, 1, 4], which is empty"),
    ]
    with Pipeline() as pipeline:
        joined = pipeline | beam.Create(images) | JoinAnnotations(None, pin(tmp_path / "b.jsonl"))
        assert_that(joined | beam.Map(boxes_and_problems), equal_to([expected]))
