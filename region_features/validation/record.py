"""What can be wrong with a record, and with the order of records; pure functions that name each problem.

K: boxes of the image; D: feature width; C: object classes with background; A: attributes with "none".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from region_features.records.key import lmdb_key
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord

_FLOATS = tuple(field.name for field in ARRAY_FIELDS if field.dtype == "<f4")
_PROBABILITIES = ("objects_conf", "attrs_conf", "cls_prob", "attrs")
# Sums of float32 roundings: a softmax may give 1 + 1e-7, a box divided by its scale may end 1e-4 pixels too far.
_PROBABILITY_SLACK = 1e-5
_PIXEL_SLACK = 1e-6  # of the image's side, and a thousandth of a pixel


class Problem(NamedTuple):
    """Something wrong: its kind in a word, and one line that says what, where, and what was expected."""

    kind: str
    message: str


def check_record(record: RegionRecord, where: str, max_boxes: int | None = None) -> Iterator[Problem]:
    """Looks at a record's values; shapes and dtypes were checked when it was made.

    Args:
        record: the image's regions.
        where: the file, for messages.
        max_boxes: most boxes that an image may have, None where that is not known.
    """
    where = f"{where}, image {record.img_id}"
    if record.img_h < 1 or record.img_w < 1:
        yield Problem("size", f"{where}: expected a size of at least 1 x 1, got {record.img_w} x {record.img_h}")
    if max_boxes is not None and record.num_boxes > max_boxes:
        yield Problem("boxes", f"{where}: expected at most {max_boxes} boxes (settings), got {record.num_boxes}")
    if not record.num_boxes:
        return
    for name in _FLOATS:
        yield from _check_floats(record, name, where)
    for name, probabilities in (("objects_id", record.cls_prob), ("attrs_id", record.attrs)):
        ids, classes = getattr(record, name), probabilities.shape[1] - 1
        if ids.min() < 0 or (classes > 0 and ids.max() >= classes):
            limit = f" below {classes}" if classes > 0 else ""
            yield Problem("ids", f"{where}, field {name}: expected ids from 0{limit}, got {ids.min()} to {ids.max()}")


def _check_floats(record: RegionRecord, name: str, where: str) -> Iterator[Problem]:
    array = getattr(record, name)
    if not array.size:
        return
    low, high = array.min(), array.max()  # one of them is NaN or infinite where any value is
    if not np.isfinite(low + high):
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            first = tuple(bad[0].tolist())
            yield Problem("nan", f"{where}, field {name}: {len(bad)} values are NaN or infinite, first at {first}")
            return
    if name in _PROBABILITIES and (low < -_PROBABILITY_SLACK or high > 1 + _PROBABILITY_SLACK):
        yield Problem(
            "probabilities", f"{where}, field {name}: expected values from 0 to 1, got {low:.6g} to {high:.6g}"
        )
    if name == "boxes":
        yield from _check_boxes(record, where)


def _check_boxes(record: RegionRecord, where: str) -> Iterator[Problem]:
    boxes = record.boxes
    slack = _PIXEL_SLACK * max(record.img_w, record.img_h) + 1e-3
    limits = np.array([record.img_w, record.img_h] * 2, np.float64) + slack
    outside = (boxes < -slack).any(axis=1) | (boxes > limits).any(axis=1)
    turned = (boxes[:, :2] > boxes[:, 2:] + slack).any(axis=1)
    for rows, what in ((outside, f"inside the image of {record.img_w} x {record.img_h}"), (turned, "x1, y1, x2, y2")):
        if rows.any():
            first = int(rows.argmax())
            values = ", ".join(f"{value:g}" for value in boxes[first])
            yield Problem(
                "boxes", f"{where}: expected boxes {what}; {rows.sum()} are not, box {first} for one: {values}"
            )


def check_order(ids: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    """Looks for images that come twice or out of LMDB key order, over the shards of one set.

    Args:
        ids: (shard, img_id) in file order.
    """
    seen: dict[bytes, tuple[str, str]] = {}
    last: tuple[bytes, str, str] | None = None
    for shard, img_id in ids:
        try:
            key = lmdb_key(img_id)
        except ValueError as error:
            yield Problem("ids", f"{shard}: {error}")
            continue
        if key in seen:
            first_shard, first_id = seen[key]
            yield Problem("duplicate", f"{shard}: image {img_id} has the LMDB key of {first_id} in {first_shard}")
        elif last is not None and key < last[0]:
            yield Problem("order", f"{shard}: image {img_id} comes after {last[2]} ({last[1]}), against LMDB key order")
        seen.setdefault(key, (shard, img_id))
        last = (key, shard, img_id)


def differing_fields(one: RegionRecord, other: RegionRecord) -> list[str]:
    """The fields in which two records are not the same, bit for bit."""
    names = [name for name in ("img_id", "img_h", "img_w") if getattr(one, name) != getattr(other, name)]
    for field in ARRAY_FIELDS:
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        same = mine.shape == theirs.shape and np.array_equal(
            np.ascontiguousarray(mine).reshape(-1).view(np.uint8),
            np.ascontiguousarray(theirs).reshape(-1).view(np.uint8),
        )
        if not same:
            names.append(field.name)
    return names


def check_key_list(key_record: Sequence[bytes], stored: Sequence[bytes], where: str) -> Iterator[Problem]:
    """Compares an LMDB's record `keys` with the keys that are there."""
    listed, present = set(key_record), set(stored)
    for keys, what in ((listed - present, "names keys that are not there"), (present - listed, "lacks keys")):
        if keys:
            yield Problem("lmdb", f"{where}: its record 'keys' {what}: {len(keys)}, {_text(min(keys))} for one")
    if len(listed) != len(key_record):
        yield Problem("lmdb", f"{where}: its record 'keys' names {len(key_record) - len(listed)} keys twice")


def _text(key: bytes) -> str:
    return key.decode(errors="backslashreplace")
