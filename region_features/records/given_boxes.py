"""Boxes that a user gives for each image in place of the network's own proposals: JSON lines, and what is bad in them.

B: boxes of the image.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.records.failure import Failure, ImageFailure

STAGE = "boxes"
_CORNERS = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True, eq=False)
class GivenBoxes:
    """The boxes of one image as they were given.

    Attributes:
        img_id: file stem.
        boxes: float32 (B, 4), x1, y1, x2, y2 in pixels of the original image; empty where there is a problem.
        problem: what makes a box unusable whatever the image, naming its index; empty where nothing does.
    """

    img_id: str
    boxes: NDArray[np.float32]
    problem: str = ""


def no_boxes(img_id: str) -> GivenBoxes:
    """What stands for an image that the boxes file does not name."""
    return GivenBoxes(img_id, np.empty((0, 4), np.float32), "no boxes given")


def parse_boxes(data: bytes, source: str) -> tuple[list[GivenBoxes], list[Failure]]:
    """Read a boxes file: `{"img_id": ..., "boxes": [[x1, y1, x2, y2], ...]}`, one image a line.

    Args:
        data: the file's content; empty lines are passed over.
        source: its name, for messages.

    Returns:
        The images in file order, and a Failure of stage `boxes` for each line that is damaged. A line whose boxes alone
        are bad is an image with a problem, which becomes a failure where the image is read.
    """
    entries: dict[str, GivenBoxes] = {}
    failures = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        img_id = ""
        try:
            row = _object(line)
            img_id = _img_id(row)
            if img_id in entries:
                raise ValueError(f"img_id {img_id} appears a second time; put all boxes of an image into one line")
            entries[img_id] = _entry(img_id, row)
        except ValueError as error:
            failures.append(Failure(source, img_id, STAGE, " ".join(f"{source}, line {number}: {error}".split())))
    return list(entries.values()), failures


def check_inside(given: GivenBoxes, height: int, width: int) -> NDArray[np.float32]:
    """The boxes, once none is bad and all lie within the image.

    Args:
        given: one image's boxes.
        height, width: pixels of the original image.

    Returns:
        float32 (B, 4), as given.

    Raises:
        ImageFailure: stage `boxes`; the reason names the first bad box and what is wrong with it.
    """
    if given.problem:
        raise ImageFailure(STAGE, given.problem)
    boxes = given.boxes
    outside = (boxes[:, :2] < 0).any(axis=1) | (boxes[:, 2] > width) | (boxes[:, 3] > height)
    if outside.any():
        index = int(outside.argmax())
        raise ImageFailure(
            STAGE,
            f"box {index}: {boxes[index].tolist()} lies outside the image of {width} x {height} pixels; clip it"
            f"{_and_others(int(outside.sum()))}",
        )
    return boxes


def _object(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected a JSON object, got {line[:40]!r}: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, got a {type(row).__name__}")
    return row


def _img_id(row: dict[str, Any]) -> str:
    img_id = row.get("img_id")
    if not isinstance(img_id, str) or not img_id:
        raise ValueError(f"field img_id: expected a file stem, got {img_id!r:.80}")
    try:
        img_id.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"field img_id: expected valid Unicode, got half a character ({error.reason})") from error
    return img_id


def _entry(img_id: str, row: dict[str, Any]) -> GivenBoxes:
    boxes = row.get("boxes")
    if not isinstance(boxes, list):
        raise ValueError(f"field boxes: expected a list of [x1, y1, x2, y2], got {boxes!r:.80}")
    if not boxes:
        return no_boxes(img_id)
    torn = [index for index, box in enumerate(boxes) if not _is_box(box)]
    if torn:
        return _bad(img_id, torn, f"expected 4 numbers x1, y1, x2, y2, got {boxes[torn[0]]!r:.80}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is named
        corners = np.array(boxes, np.float64).astype(np.float32)
    endless = np.flatnonzero(~np.isfinite(corners).all(axis=1))
    if len(endless):
        return _bad(img_id, endless, f"expected finite numbers, got {boxes[endless[0]]}")
    empty = np.flatnonzero((corners[:, :2] >= corners[:, 2:]).any(axis=1))
    if len(empty):
        return _bad(img_id, empty, f"expected x1 < x2 and y1 < y2, got {boxes[empty[0]]}, which is empty")
    return GivenBoxes(img_id, corners)


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))


def _is_number(value: Any) -> bool:
    # A longer whole number would not fit into a float.
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _bad(img_id: str, indices: Sequence[int] | NDArray[np.int64], problem: str) -> GivenBoxes:
    return GivenBoxes(img_id, no_boxes(img_id).boxes, f"box {indices[0]}: {problem}{_and_others(len(indices))}")


def _and_others(count: int) -> str:
    return "" if count == 1 else f" (and {count - 1} more of its boxes)"
