"""Files of given boxes: good lines are read; damaged lines and bad boxes are named."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from region_features.formats.boxes import parse_boxes
from region_features.records.failure import ImageFailure
from region_features.records.given_boxes import GivenBoxes, check_inside, no_boxes

SOURCE = "boxes.jsonl"


def dump(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def problem_of(*boxes: Any) -> str:
    entries, failures = parse_boxes(dump({"img_id": "a", "boxes": boxes}), SOURCE)
    assert failures == [] and len(entries) == 1
    with pytest.raises(ImageFailure) as caught:
        check_inside(entries[0], 100, 200)
    assert caught.value.stage == "boxes"
    return caught.value.reason


def test_boxes_keep_their_order_and_duplicates_as_float32() -> None:
    boxes = [[5, 6, 7.25, 8], [0, 0, 200, 100], [5, 6, 7.25, 8], [0.1, 0.2, 0.3, 0.4]]
    data = (
        b"\xef\xbb\xbf"
        + dump({"img_id": "é 1", "boxes": boxes, "more": 1})
        + b"\r\n \n"
        + dump({"img_id": "b", "boxes": [[1, 2, 3, 4]]}).rstrip(b"\n")
    )
    entries, failures = parse_boxes(data, SOURCE)
    assert failures == [] and [entry.img_id for entry in entries] == ["é 1", "b"]
    checked = check_inside(entries[0], 100, 200)
    assert checked.dtype == np.float32
    np.testing.assert_array_equal(checked, np.array(boxes, np.float32))


@pytest.mark.parametrize(
    ("line", "img_id", "words"),
    [
        (b"garbage", "", "expected a JSON object, got b'garbage'"),
        (b'{"img_id": "c", "boxes": [[1, 2', "", "expected a JSON object"),
        (b"[" * 100_000, "", "expected a JSON object"),
        (b"\xff\xfe", "", "expected a JSON object"),
        (b"[1]", "", "expected a JSON object, got b'[1]'"),
        (b"{}", "", "field img_id: expected a file stem, got None"),
        (b'{"img_id": 7, "boxes": []}', "", "field img_id: expected a file stem, got 7"),
        (b'{"img_id": "", "boxes": []}', "", "field img_id: expected a file stem, got ''"),
        (b'{"img_id": "\\ud83d", "boxes": []}', "", "field img_id: expected valid Unicode"),
        (b'{"img_id": "c"}', "c", "field boxes: expected a list of [x1, y1, x2, y2], got None"),
        (b'{"img_id": "c", "boxes": {"0": [1]}}', "c", "field boxes: expected a list"),
        (b'{"img_id": "a", "boxes": [[0, 0, 1, 1]]}', "a", "img_id a appears a second time"),
    ],
)
def test_a_damaged_line_is_a_failure_and_its_neighbours_stay(line: bytes, img_id: str, words: str) -> None:
    good = dump({"img_id": "a", "boxes": [[1, 2, 3, 4]]})
    entries, failures = parse_boxes(good + line + b"\n" + dump({"img_id": "b", "boxes": [[1, 2, 3, 4]]}), SOURCE)
    assert [entry.img_id for entry in entries] == ["a", "b"]
    (failure,) = failures
    assert (failure.uri, failure.img_id, failure.stage) == (SOURCE, img_id, "boxes")
    assert failure.reason.startswith("boxes.jsonl, line 2: ") and words in failure.reason
    assert "\n" not in failure.reason


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([1, 2, 3], "expected 4 numbers x1, y1, x2, y2, got [1, 2, 3]"),
        ([1, 2, 3, 4, 5], "expected 4 numbers"),
        ([1, 2, 3, "4"], "expected 4 numbers"),
        ([1, 2, 3, None], "expected 4 numbers"),
        ([1, 2, 3, True], "expected 4 numbers"),
        ([[1], 2, 3, 4], "expected 4 numbers"),
        ([1, 2, 3, 10**400], "expected 4 numbers"),
        ("1234", "expected 4 numbers"),
        (None, "expected 4 numbers"),
        ([1, 2, float("nan"), 4], "expected finite numbers, got [1, 2, nan, 4]"),
        ([1, 2, float("inf"), 4], "expected finite numbers"),
        ([-float("inf"), 2, 3, 4], "expected finite numbers"),
        ([1, 2, 1e39, 4], "expected finite numbers"),
        ([3, 2, 3, 4], "expected x1 < x2 and y1 < y2, got [3, 2, 3, 4], which is empty"),
        ([1, 4, 3, 2], "which is empty"),
        ([1, 2, 1 + 1e-12, 4], "which is empty"),
        ([-0.5, 2, 3, 4], "[-0.5, 2.0, 3.0, 4.0] lies outside the image of 200 x 100 pixels"),
        ([1, -1, 3, 4], "lies outside"),
        ([1, 2, 200.5, 4], "lies outside"),
        ([1, 2, 3, 101], "lies outside"),
        ([300, 300, 400, 400], "lies outside"),
    ],
)
def test_a_bad_box_is_named_by_index_and_reason(box: Any, words: str) -> None:
    reason = problem_of([1, 2, 3, 4], [0, 0, 200, 100], box, [5, 5, 6, 6])
    assert reason.startswith("box 2: ") and words in reason and "more of its boxes" not in reason


def test_several_bad_boxes_are_counted() -> None:
    assert problem_of([1, 2, 1, 4], [1, 2, 3, 4], [7, 2, 1, 4]).endswith("which is empty (and 1 more of its boxes)")
    assert problem_of([1, 2, 3, 4], [1, 2, 3, 400], [1, 2, 3, 400], [1, 2, 3, 400]).startswith("box 1: ")
    assert problem_of([1, 2, 3, 400], [1, 2, 3, 400], [1, 2, 3, 400]).endswith("clip it (and 2 more of its boxes)")


def test_an_image_without_boxes_fails() -> None:
    assert problem_of() == "no boxes given"
    with pytest.raises(ImageFailure, match="no boxes given"):
        check_inside(no_boxes("a"), 10, 10)


def test_an_empty_file_has_no_images_and_no_failures() -> None:
    assert parse_boxes(b"", SOURCE) == ([], []) and parse_boxes(b"\n\n", SOURCE) == ([], [])


def test_a_box_may_span_the_whole_image() -> None:
    whole = GivenBoxes("a", np.array([[0, 0, 200, 100]], np.float32))
    np.testing.assert_array_equal(check_inside(whole, 100, 200), whole.boxes)
