"""Seeded random records, examples and shards of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from region_features.formats.example import ImageExample, encode_example
from region_features.formats.tfrecord import write_record
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord


def make_record(img_id: str, boxes: int = 3, width: int = 16, classes: int = 7, seed: int = 0) -> RegionRecord:
    random = np.random.default_rng([seed, *img_id.encode()])

    def probabilities(*shape: int) -> np.ndarray:
        return random.random(shape, dtype=np.float32)

    corners = np.sort(probabilities(boxes, 2, 2), axis=1) * 480

    return RegionRecord(
        img_id=img_id,
        img_h=480,
        img_w=640,
        objects_id=random.integers(0, classes - 1, boxes),
        objects_conf=probabilities(boxes),
        attrs_id=random.integers(0, 4, boxes),
        attrs_conf=probabilities(boxes),
        boxes=corners.reshape(boxes, 4),
        features=random.standard_normal((boxes, width), dtype=np.float32),
        cls_prob=probabilities(boxes, classes),
        attrs=probabilities(boxes, 5),
    )


def without_probabilities(record: RegionRecord) -> RegionRecord:
    """Return a record as it comes from a file that has no probabilities, a TSV of ten columns for one."""
    empty = np.empty((record.num_boxes, 0), np.float32)
    return replace(record, cls_prob=empty, attrs=empty)


def make_example(record: RegionRecord, captions: tuple[str, ...] = ("Ein Hund läuft. ", "a dog")) -> ImageExample:
    ids = tuple(range(770337, 770337 + len(captions)))
    return ImageExample(record, f"{record.img_id}.jpg", "ab" * 32, captions, ids, "val" if captions else "")


def write_shard(path: Path, records: list[RegionRecord]) -> str:
    with open(path, "wb") as stream:
        for record in records:
            write_record(stream, encode_example(make_example(record)))
    return str(path)


def assert_same(record: RegionRecord, expected: RegionRecord) -> None:
    """Assert equality bit for bit, also of NaN and negative zero."""
    assert (record.img_id, record.img_h, record.img_w) == (expected.img_id, expected.img_h, expected.img_w)
    for field in ARRAY_FIELDS:
        left, right = getattr(record, field.name), getattr(expected, field.name)
        assert (left.shape, left.dtype, left.tobytes()) == (right.shape, right.dtype, right.tobytes()), field.name
