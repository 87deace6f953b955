"""COCO's detection JSON: categories, images, and a box an annotation.

A line holds one image, or all annotations of one image, so that it is written and read in parts. K: boxes of an image.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from region_features.formats.example import ImageExample
from region_features.names import ClassNames
from region_features.records.json_text import parse_json
from region_features.records.region_record import RegionRecord

_PIXEL_DIGITS, _SCORE_DIGITS = 2, 4
# The lines between the sections.
ANNOTATIONS = b'{"info": {"description": "regions of bottom-up attention"}, "licenses": [], "annotations": [\n'
IMAGES, CATEGORIES, END = b'], "images": [\n', b'], "categories": [\n', b"]}\n"
_SEPARATOR = b",\n"


class StoredLine(NamedTuple):
    """A line of a file: the section that it is in, and where its content stands, without comma and line break."""

    section: bytes
    offset: int
    length: int


def image_row(example: ImageExample, image_id: int) -> dict[str, Any]:
    """Return the row of an image."""
    record = example.record
    return {"id": image_id, "file_name": example.filename, "width": record.img_w, "height": record.img_h}


def annotation_rows(
    record: RegionRecord, image_id: int, first_id: int, names: ClassNames | None
) -> list[dict[str, Any]]:
    """Return the K annotations of an image.

    Boxes are x, y, width, height in hundredths of a pixel, scores have four digits. The category is the class from 1,
    as 0 is the background. Attributes have their name and score where the network has them, and names are known.
    """
    corners = record.boxes.astype(np.float64)
    sides = corners[:, 2:] - corners[:, :2]
    boxes = np.concatenate([corners[:, :2], sides], axis=1).round(_PIXEL_DIGITS)
    areas = sides.prod(axis=1).round(_PIXEL_DIGITS)
    scores = record.objects_conf.astype(np.float64).round(_SCORE_DIGITS)
    rows: list[dict[str, Any]] = [
        {
            "id": first_id + row,
            "image_id": image_id,
            "category_id": category + 1,
            "bbox": box,
            "area": area,
            "iscrowd": 0,
            "score": score,
        }
        for row, (category, box, area, score) in enumerate(
            zip(record.objects_id.tolist(), boxes.tolist(), areas.tolist(), scores.tolist(), strict=True)
        )
    ]
    if names and names.attributes:
        confidences = record.attrs_conf.astype(np.float64).round(_SCORE_DIGITS).tolist()
        for row, (attribute, confidence) in enumerate(zip(record.attrs_id.tolist(), confidences, strict=True)):
            if confidence > 0:  # a network without attributes writes zeros
                rows[row] |= {"attribute": names.attribute_name(attribute), "attribute_score": confidence}
    return rows


def category_rows(count: int, names: ClassNames | None) -> list[dict[str, Any]]:
    """Return the rows of `count` classes, from 1; `class 1` where their names are not known."""
    return [
        {"id": number, "name": names.object_name(number - 1) if names else f"class {number}", "supercategory": ""}
        for number in range(1, count + 1)
    ]


def encode_rows(rows: list[dict[str, Any]]) -> bytes:
    """Return rows as a line's content."""
    return ", ".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows).encode()


class LineWriter:
    """Writes the lines of one section after the other, a comma between two."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._first = True

    def begin(self, section: bytes) -> None:
        """End the section before, if any, and begin another."""
        self._stream.write(section if self._first else b"\n" + section)
        self._first = True

    def write(self, line: bytes) -> None:
        """Write a line."""
        self._stream.write(line if self._first else _SEPARATOR + line)
        self._first = False


def find_lines(stream: BinaryIO, source: str) -> Iterator[StoredLine]:
    """Find the lines of a file.

    Raises:
        ValueError: it is not laid out as this format's files are.
    """
    marks = [ANNOTATIONS, IMAGES, CATEGORIES, END]
    section, offset = b"", 0
    for line in stream:
        if marks and line == marks[0]:
            section = marks.pop(0)
        elif section in (b"", END):
            break
        else:
            yield StoredLine(section, offset, len(line.rstrip(b",\n")))
        offset += len(line)
    else:
        if not marks:
            return
    raise ValueError(f"{source}: expected annotations, images and categories, a line an image, got another file")


def read_rows(data: bytes, source: str) -> list[dict[str, Any]]:
    """Read a line's content back; ValueError if it holds no objects."""
    try:
        rows = parse_json(b"[" + data + b"]")
    except ValueError as error:
        raise ValueError(f"{source}: expected JSON objects, got {data[:60]!r} ({error})") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{source}: expected JSON objects, got {data[:60]!r}")
    return rows
