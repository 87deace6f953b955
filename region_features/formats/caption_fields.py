"""Checked fields of the rows of captions files. A ValueError names the field, what was expected, and what came."""

from __future__ import annotations

from typing import Any

from region_features.formats.json_values import check_unicode, is_int64
from region_features.records.coco import ANNOTATION_OF_SPLIT


def value_field(row: Any, name: str) -> Any:
    """Return a field of a row that must be an object and have it."""
    if not isinstance(row, dict):
        raise ValueError(f"expected an object with the field {name!r}, got {row!r:.80}")
    if name not in row:
        raise ValueError(f"missing field {name!r}")
    return row[name]


def number_field(row: Any, name: str) -> int:
    """Return a field that is a whole number of 64 bits."""
    value = value_field(row, name)
    if not is_int64(value):
        raise ValueError(f"field {name}: expected a whole number of 64 bits, got {value!r:.40}")
    return value


def text_field(row: Any, name: str) -> str:
    """Return a field that is text of valid Unicode."""
    return _text(value_field(row, name), name)


def texts_field(row: Any, name: str) -> list[str]:
    """Return a field that is a list of texts."""
    return [_text(value, name) for value in list_field(row, name)]


def list_field(row: Any, name: str) -> list[Any]:
    """Return a field that is a list."""
    values = value_field(row, name)
    if not isinstance(values, list):
        raise ValueError(f"field {name}: expected a list, got {values!r:.80}")
    return values


def stem_field(row: Any, name: str) -> str:
    """Return the stem of a file name, `42` of `val2014/42.jpg`."""
    file_name = text_field(row, name)
    stem = file_name.rpartition("/")[2].rpartition(".")[0]
    if not stem:
        raise ValueError(f"field {name}: expected NAME.jpg, got {file_name!r:.80}")
    return stem


def check_split(split: object) -> str:
    """Return a split that is one of Karpathy's."""
    if not isinstance(split, str) or split not in ANNOTATION_OF_SPLIT:
        raise ValueError(f"field split: expected one of {', '.join(ANNOTATION_OF_SPLIT)}, got {split!r:.80}")
    return split


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"field {name}: expected text, got {value!r:.80}")
    try:
        check_unicode(value)
    except ValueError as error:
        raise ValueError(f"field {name}: {error}") from error
    return value
