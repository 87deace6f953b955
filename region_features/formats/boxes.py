"""The file of given boxes: JSON lines `{"img_id": ..., "boxes": [[x1, y1, x2, y2], ...]}`, one image a line."""

from __future__ import annotations

from typing import Any

import numpy as np

from region_features.formats.json_values import check_unicode
from region_features.records.failure import Failure
from region_features.records.given_boxes import STAGE, GivenBoxes, describe_bad_boxes, no_boxes
from region_features.records.json_text import parse_json


def parse_boxes(data: bytes, source: str) -> tuple[list[GivenBoxes], list[Failure]]:
    """Read a file of given boxes; empty lines are skipped.

    Returns:
        The images in file order, and a Failure of stage `boxes` for each damaged line. Where only the boxes of a line
        are bad, its image is among the images, with a `problem`, and fails when it is read.
    """
    images: dict[str, GivenBoxes] = {}
    failures = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        img_id = ""
        try:
            row = _parse_object(line)
            img_id = _img_id(row)
            if img_id in images:
                raise ValueError(f"img_id {img_id} appears a second time; put all boxes of an image into one line")
            images[img_id] = _given_boxes(img_id, row)
        except ValueError as error:
            failures.append(Failure(source, img_id, STAGE, " ".join(f"{source}, line {number}: {error}".split())))
    return list(images.values()), failures


def _parse_object(line: bytes) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise ValueError(f"expected a JSON object, got {line[:40]!r}: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, got {line[:40]!r}")
    return row


def _img_id(row: dict[str, Any]) -> str:
    img_id = row.get("img_id")
    if not isinstance(img_id, str) or not img_id:
        raise ValueError(f"field img_id: expected a file stem, got {img_id!r:.80}")
    try:
        check_unicode(img_id)
    except ValueError as error:
        raise ValueError(f"field img_id: {error}") from error
    return img_id


def _given_boxes(img_id: str, row: dict[str, Any]) -> GivenBoxes:
    rows = row.get("boxes")
    if not isinstance(rows, list):
        raise ValueError(f"field boxes: expected a list of [x1, y1, x2, y2], got {rows!r:.80}")
    if not rows:
        return no_boxes(img_id)
    bad = [index for index, box in enumerate(rows) if not _is_box(box)]
    if bad:
        return no_boxes(img_id, describe_bad_boxes(bad, f"expected 4 numbers x1, y1, x2, y2, got {rows[bad[0]]!r:.80}"))
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, and are refused below
        boxes = np.array(rows, np.float64).astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(boxes).all(axis=1)).tolist()
    if bad:
        return no_boxes(img_id, describe_bad_boxes(bad, f"expected finite numbers, got {rows[bad[0]]}"))
    bad = np.flatnonzero((boxes[:, :2] >= boxes[:, 2:]).any(axis=1)).tolist()
    if bad:
        problem = f"expected x1 < x2 and y1 < y2, got {rows[bad[0]]}, which is empty"
        return no_boxes(img_id, describe_bad_boxes(bad, problem))
    return GivenBoxes(img_id, boxes)


def _is_box(box: Any) -> bool:
    if not isinstance(box, list) or len(box) != 4:
        return False
    # Larger integers may overflow a float.
    return all(type(value) is float or (type(value) is int and abs(value) < 2**63) for value in box)
