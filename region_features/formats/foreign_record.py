"""Records of the arrays that another program's file holds. K: boxes of the image; D: feature width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pybase64
from numpy.typing import NDArray

from region_features.formats import REMEDY
from region_features.records.region_record import ARRAY_FIELDS, ArrayField, RegionRecord

UNKNOWN_SIZE = (0, 0)
# A field of the record, and what other programs call it.
_OTHER_NAMES = {"boxes": ("bbox",), "objects_id": ("objects",)}
_HEIGHTS, _WIDTHS = ("img_h", "image_h", "image_height"), ("img_w", "image_w", "image_width")


def record_of(img_id: str, size: tuple[int, int], arrays: Mapping[str, Any], where: str) -> RegionRecord:
    """Build a record of the arrays that there are; those that are missing have no elements.

    Classes and their confidences that are missing are taken from `cls_prob`, from which the network's own were taken.

    Args:
        img_id: of the image.
        size: its height and width in pixels; UNKNOWN_SIZE where the file has none.
        arrays: by their names in ARRAY_FIELDS, of any type of numbers; `boxes` and `features` at least.
        where: file and image, for messages.

    Raises:
        ValueError: an array is no array of numbers, or has not the shape that the record needs; names it.
    """
    count = len(arrays["boxes"]) if isinstance(arrays.get("boxes"), np.ndarray) else 0
    converted: dict[str, Any] = {
        field.name: _converted(arrays.get(field.name), field, count, where) for field in ARRAY_FIELDS
    }
    probabilities = converted["cls_prob"]
    if probabilities.size and probabilities.shape[1] > 1:
        foreground = probabilities[:, 1:]  # the background stands first
        best = foreground.argmax(axis=1)
        if not converted["objects_id"].size:
            converted["objects_id"] = best.astype("<i8")
        if not converted["objects_conf"].size and np.array_equal(converted["objects_id"], best):
            converted["objects_conf"] = foreground.max(axis=1)
    try:
        return RegionRecord(img_id, *size, **converted)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _converted(value: Any, field: ArrayField, count: int, where: str) -> NDArray[Any]:
    """Return a value as an array of the field's type, empty where there is none."""
    if value is None and field.name not in ("boxes", "features"):
        return np.empty(0 if field.columns is None else (count, 0), field.dtype)
    rank = 1 if field.columns is None else 2
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.ndim != rank:
        got = f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else f"{value!r:.40}"
        raise ValueError(
            f"{where}, field {field.name}: expected an array of numbers of rank {rank}, got {got}; {REMEDY}"
        )
    return np.ascontiguousarray(value, field.dtype)


def record_from_names(fields: Mapping[str, Any], img_id: str, source: str) -> RegionRecord:
    """Build a record of a dict as MMF, ViLBERT and their like pickle it: sizes as numbers or text, arrays or base64.

    Args:
        fields: by the names that any of these programs has.
        img_id: of the image.
        source: file and key, for messages.

    Raises:
        ValueError: a size, the boxes or the features are missing, or a field has not the shape that it must have.
    """
    where = f"{source}, image {img_id}"
    size = (_number(fields, _HEIGHTS, where), _number(fields, _WIDTHS, where))
    count = _number(fields, ("num_boxes",), where)
    arrays = {}
    for field in ARRAY_FIELDS:
        value = next((fields[name] for name in (field.name, *_OTHER_NAMES.get(field.name, ())) if name in fields), None)
        arrays[field.name] = _decoded(value, field, count, where) if isinstance(value, str | bytes) else value
    record = record_of(img_id, size, arrays, where)
    if record.num_boxes != count:
        raise ValueError(
            f"{where}, field num_boxes: expected {record.num_boxes} as there are boxes, got {count}; {REMEDY}"
        )
    return record


def _number(fields: Mapping[str, Any], names: tuple[str, ...], where: str) -> int:
    value = next((fields[name] for name in names if name in fields), None)
    try:
        number = int(value)  # type: ignore[arg-type]  # anything else is a TypeError
        if number < 0 or (isinstance(value, float) and value != number):
            raise ValueError("no count")
    except (TypeError, ValueError, OverflowError) as error:
        expected = f"{where}, field {' or '.join(names)}: expected a whole number"
        raise ValueError(f"{expected}, got {value!r:.40}; {REMEDY}") from error
    return number


def _decoded(text: str | bytes, field: ArrayField, count: int, where: str) -> NDArray[Any]:
    try:
        values = np.frombuffer(pybase64.b64decode(text, validate=True), field.dtype)
        if field.columns is None:
            return values
        return values.reshape(count, -1 if count else field.columns)
    except ValueError as error:
        expected = f"{where}, field {field.name}: expected base64 of {field.dtype} of {count} boxes"
        raise ValueError(f"{expected}, got {error}; {REMEDY}") from error
