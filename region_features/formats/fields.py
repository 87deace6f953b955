"""The record from its fields by name: id and sizes as text, the arrays as arrays. K: boxes of the image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from region_features.formats import REMEDY
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord

_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")


def image_of(fields: Mapping[str, object], source: str) -> str:
    """Name file and image, for messages."""
    return f"{source}, image {fields.get('img_id', '(unnamed)')!s:.300}"


def text_field(fields: Mapping[str, object], name: str, where: str) -> str:
    """Return a field that is text; ValueError if it is missing or something else."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{where}, field {name}: expected text, got {_kind(value)}; {REMEDY}")
    return value


def number_field(fields: Mapping[str, object], name: str, where: str) -> int:
    """Return the whole number that a field holds as text; ValueError if it is missing or something else."""
    text = text_field(fields, name, where)
    if not _WHOLE_NUMBER.fullmatch(text):
        raise ValueError(f"{where}, field {name}: expected a whole number, got {text[:40]!r}; {REMEDY}")
    return int(text)


def record_from_fields(fields: Mapping[str, object], source: str) -> RegionRecord:
    """Build a record of `img_id`, `img_h` and `img_w` as text, and the arrays of ARRAY_FIELDS; more is ignored.

    Raises:
        ValueError: a field is missing or has not the type, dtype or shape it must have; names file, image and field.
    """
    where = image_of(fields, source)
    img_id = text_field(fields, "img_id", where)
    if not img_id:
        raise ValueError(f"{where}, field img_id: expected a file stem, got empty text; {REMEDY}")
    arrays: dict[str, Any] = {}
    for field in ARRAY_FIELDS:
        array = arrays[field.name] = fields.get(field.name)
        rank = 1 if field.columns is None else 2
        if not isinstance(array, np.ndarray) or array.ndim != rank:
            got = f"shape {array.shape}" if isinstance(array, np.ndarray) else _kind(array)
            raise ValueError(f"{where}, field {field.name}: expected an array of rank {rank}, got {got}; {REMEDY}")
    height, width = (number_field(fields, name, where) for name in ("img_h", "img_w"))
    try:
        return RegionRecord(img_id, height, width, **arrays)
    except ValueError as error:
        raise ValueError(f"{source}, {error}") from error


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {value!r:.40}"
