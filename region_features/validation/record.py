"""Checks of records, of their order in the shards, and of LMDB key lists; each yields Problems.

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
# float32 rounding: a softmax may exceed 1 by 1e-7, and a box divided by the image's scale its side by 1e-4 pixels.
_PROBABILITY_SLACK = 1e-5
_LONGEST_SIDE = 2**31 - 1  # pixels; Parquet tables hold no more
_PIXEL_SLACK = 1e-6  # times the image's longer side, plus 1e-3 pixels


class Problem(NamedTuple):
    """A problem in an output: its kind in one word, and a message with place, expectation and finding."""

    kind: str
    message: str


def check_record(record: RegionRecord, where: str, max_boxes: int | None = None) -> Iterator[Problem]:
    """Check a record's values; RegionRecord itself checks shapes and dtypes. `max_boxes` None allows any number."""
    where = f"{where}, image {record.img_id}"
    if not (1 <= record.img_h <= _LONGEST_SIDE and 1 <= record.img_w <= _LONGEST_SIDE):
        size = f"a size of at least 1 x 1, and at most {_LONGEST_SIDE} pixels a side"
        yield Problem("size", f"{where}: expected {size}, got {record.img_w} x {record.img_h}")
    if max_boxes is not None and record.num_boxes > max_boxes:
        yield Problem("boxes", f"{where}: expected at most {max_boxes} boxes (settings), got {record.num_boxes}")
    if not record.num_boxes:
        return
    for name in _FLOATS:
        yield from _check_floats(record, name, where)
    for name, probabilities in (("objects_id", record.cls_prob), ("attrs_id", record.attrs)):
        ids, classes = getattr(record, name), probabilities.shape[1] - 1
        if record.lacks(name):
            continue
        if ids.min() < 0 or (classes > 0 and ids.max() >= classes):
            limit = f" below {classes}" if classes > 0 else ""
            yield Problem("ids", f"{where}, field {name}: expected ids from 0{limit}, got {ids.min()} to {ids.max()}")


def _check_floats(record: RegionRecord, name: str, where: str) -> Iterator[Problem]:
    array = getattr(record, name)
    if not array.size:
        return
    low, high = array.min(), array.max()  # a NaN or infinite value shows in one of them
    if not np.isfinite(low + high):
        indices = np.argwhere(~np.isfinite(array))
        if len(indices):  # else the sum of two finite values overflowed
            first = tuple(indices[0].tolist())
            yield Problem("nan", f"{where}, field {name}: {len(indices)} values are NaN or infinite, first at {first}")
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
    swapped = (boxes[:, :2] > boxes[:, 2:] + slack).any(axis=1)
    inside = f"inside the image of {record.img_w} x {record.img_h}"
    for bad, expected in ((outside, inside), (swapped, "x1, y1, x2, y2")):
        if bad.any():
            first = int(bad.argmax())
            values = ", ".join(f"{value:g}" for value in boxes[first])
            message = f"{where}: expected boxes {expected}; {bad.sum()} are not, box {first} for one: {values}"
            yield Problem("boxes", message)


def check_order(ids: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    """Check that a set's images, (shard, img_id) in file order, are in LMDB key order, and that no key repeats."""
    seen: dict[bytes, tuple[str, str]] = {}
    last: tuple[bytes, str, str] | None = None  # key, shard, img_id
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


def differing_fields(left: RegionRecord, right: RegionRecord) -> list[str]:
    """Return the names of the fields that are not the same in both records, bit for bit."""

    def content(record: RegionRecord, name: str) -> object:
        value = getattr(record, name)
        return (value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value

    names = ("img_id", "img_h", "img_w", *(field.name for field in ARRAY_FIELDS))
    return [name for name in names if content(left, name) != content(right, name)]


def check_key_list(key_record: Sequence[bytes], stored: Sequence[bytes], where: str) -> Iterator[Problem]:
    """Compare the list in an LMDB's record `keys` with the keys that are stored."""
    listed, present = set(key_record), set(stored)
    for keys, what in ((listed - present, "names keys that are not there"), (present - listed, "lacks keys")):
        if keys:
            example = min(keys).decode(errors="backslashreplace")
            yield Problem("lmdb", f"{where}: its record 'keys' {what}: {len(keys)}, {example} for one")
    if len(listed) != len(key_record):
        yield Problem("lmdb", f"{where}: its record 'keys' names {len(key_record) - len(listed)} keys twice")
