"""The record in VOLTA's LMDB: a pickled dict of the strings that also make up a TSV row.

Arrays are base64 of their raw little-endian bytes. K: boxes of the image.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pybase64
from numpy.typing import NDArray

from region_features.formats import REMEDY
from region_features.formats.fields import image_of, number_field, record_from_fields, text_field
from region_features.formats.pickles import PROTOCOL, load_restricted, peek_text
from region_features.records.region_record import ARRAY_FIELDS, FIELD_NAMES, ArrayField, RegionRecord


def record_to_strings(record: RegionRecord) -> dict[str, str]:
    """Return the thirteen fields as text, in FIELD_NAMES order.

    `classes` is the same object as `cls_prob`, so a pickle stores it once.
    """
    strings = {name: str(getattr(record, name)) for name in ("img_id", "img_h", "img_w", "num_boxes")}
    for field in ARRAY_FIELDS:
        array = np.ascontiguousarray(getattr(record, field.name))
        strings[field.name] = pybase64.b64encode_as_string(array.data)
    strings["classes"] = strings["cls_prob"]
    return {name: strings[name] for name in FIELD_NAMES}


def record_from_strings(strings: Mapping[str, object], source: str) -> RegionRecord:
    """Read the thirteen text fields back, bit for bit.

    Widths follow from `num_boxes` and the byte counts, so an image without boxes comes back with arrays of width 0.
    An empty text is an array that is missing.

    More fields are ignored. The record's arrays are read-only.

    Raises:
        ValueError: a field is missing, no text, no number, no base64, or of a size that does not fit `num_boxes`.
    """
    where = image_of(strings, source)
    texts = {name: text_field(strings, name, where) for name in FIELD_NAMES}
    if texts["classes"] != texts["cls_prob"]:
        raise ValueError(f"{where}, field classes: expected the text of cls_prob, got another; {REMEDY}")
    count = number_field(texts, "num_boxes", where)
    arrays = {field.name: _array(texts[field.name], field, count, where) for field in ARRAY_FIELDS}
    return record_from_fields({**texts, **arrays}, source)


def encode_volta(record: RegionRecord) -> bytes:
    """Return the value that VOLTA's reader unpickles: a plain dict of thirteen `str`, in FIELD_NAMES order."""
    return pickle.dumps(record_to_strings(record), protocol=PROTOCOL)


def decode_volta(data: bytes, source: str) -> RegionRecord:
    """Read a value of VOLTA's LMDB; a pickle that asks for any class or function is refused.

    Raises:
        ValueError: the data is no such pickle, or a field is wrong (see `record_from_strings`).
    """
    return record_from_strings(load_restricted(data, dict, "a pickled dict of text", source), source)


def peek_id(data: bytes) -> str | None:
    """Return the image's id from the first bytes of a pickled value; None if they do not hold it."""
    return peek_text(data, "img_id")


def encode_keys(keys: Sequence[bytes]) -> bytes:
    """Return the value of VOLTA's record `keys`: a pickled list of all other keys."""
    return pickle.dumps(list(keys), protocol=PROTOCOL)


def decode_keys(data: bytes, source: str) -> list[bytes]:
    """Read the record `keys`; ValueError if it is no pickled list of bytes, or asks for any class or function."""
    source = f"{source}, record keys"
    keys = load_restricted(data, list, "a pickled list", source)
    if not all(isinstance(key, bytes) for key in keys):
        raise ValueError(f"{source}: expected a list of bytes, got something else; {REMEDY}")
    return keys


def _array(text: str, field: ArrayField, count: int, where: str) -> NDArray[Any]:
    where = f"{where}, field {field.name}"
    try:
        raw = pybase64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"{where}: expected base64, got text that is none ({error}); {REMEDY}") from error
    row = np.dtype(field.dtype).itemsize * (field.columns or 1)  # bytes of a box; at least, if any width is allowed
    any_width = field.columns == 0
    if not raw and field.columns is None:  # the source of the record lacked it
        return np.empty(0, field.dtype)
    if len(raw) % (count * row) if any_width and count else len(raw) != count * row:
        size = f"a multiple of {count * row} bytes" if any_width else f"{count * row} bytes"
        raise ValueError(f"{where}: expected {field.dtype} of {count} boxes ({size}), got {len(raw)} bytes; {REMEDY}")
    array = np.frombuffer(raw, field.dtype)
    return array if field.columns is None else array.reshape(count, field.columns or len(raw) // max(count * row, 1))
