"""The record as VOLTA's LMDB holds it: a pickled dict of the strings that also make up a TSV row.

Arrays stand as base64 of their raw little-endian bytes. K: boxes of the image.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import pybase64
from numpy.typing import NDArray

from region_features.formats.portable_pickle import PICKLE_PROTOCOL
from region_features.records.region_record import ARRAY_FIELDS, FIELD_NAMES, ArrayField, RegionRecord

_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")


def record_to_strings(record: RegionRecord) -> dict[str, str]:
    """Gives the thirteen fields as text, in FIELD_NAMES order.

    `classes` is the same object as `cls_prob`, so a pickle stores it once.
    """
    strings = {name: str(getattr(record, name)) for name in ("img_id", "img_h", "img_w", "num_boxes")}
    for field in ARRAY_FIELDS:
        array = np.ascontiguousarray(getattr(record, field.name))
        strings[field.name] = pybase64.b64encode_as_string(array.data)
    strings["classes"] = strings["cls_prob"]
    return {name: strings[name] for name in FIELD_NAMES}


def record_from_strings(strings: Mapping[str, str], source: str) -> RegionRecord:
    """Reads the thirteen text fields back, bit for bit.

    Widths follow from `num_boxes` and the byte counts, so an image without boxes comes back with arrays of width 0.

    Args:
        strings: the fields by name; more are ignored.
        source: the file's name, for messages.

    Returns:
        The record; its arrays are read-only.

    Raises:
        ValueError: a field is missing, no text, no number, no base64, or of a size that does not fit `num_boxes`.
    """
    where = f"{source}, image {strings.get('img_id', '(unnamed)')}"
    for name in FIELD_NAMES:
        if not isinstance(strings.get(name), str):
            got = type(strings[name]).__name__ if name in strings else "nothing"
            raise ValueError(f"{where}, field {name}: expected text, got {got}; {_REMEDY}")
    if not strings["img_id"]:
        raise ValueError(f"{where}, field img_id: expected a file stem, got empty text; {_REMEDY}")
    if strings["classes"] != strings["cls_prob"]:
        raise ValueError(f"{where}, field classes: expected the text of cls_prob, got another; {_REMEDY}")
    count = read_number(strings, "num_boxes", where)
    arrays: dict[str, Any] = {field.name: _array(strings, field, count, where) for field in ARRAY_FIELDS}
    return RegionRecord(
        img_id=strings["img_id"],
        img_h=read_number(strings, "img_h", where),
        img_w=read_number(strings, "img_w", where),
        **arrays,
    )


def encode_volta(record: RegionRecord) -> bytes:
    """Gives the value that VOLTA's reader unpickles: a plain dict of thirteen `str`, in FIELD_NAMES order."""
    return pickle.dumps(record_to_strings(record), protocol=PICKLE_PROTOCOL)


def decode_volta(data: bytes, source: str) -> RegionRecord:
    """Reads a value of VOLTA's LMDB; a pickle that asks for any class or function is refused.

    Args:
        data: the pickled dict.
        source: the file's name, for messages.

    Raises:
        ValueError: the data is no such pickle, or a field is wrong (see `record_from_strings`).
    """
    try:
        value = _PlainUnpickler(io.BytesIO(data)).load()
    except Exception as error:  # a damaged pickle raises whatever its opcodes stumble on
        raise ValueError(f"{source}: expected a pickled dict of text, got {error!r}; {_REMEDY}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{source}: expected a pickled dict of text, got a {type(value).__name__}; {_REMEDY}")
    return record_from_strings(value, source)


_REMEDY = "the file is damaged or was written by another program: build it again"


class _PlainUnpickler(pickle.Unpickler):
    """Loads plain containers and text only."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, and plain text needs no global")


def read_number(strings: Mapping[str, str], name: str, where: str) -> int:
    """The whole number that a field holds as text.

    Raises:
        ValueError: it holds something else.
    """
    text = strings[name]
    if not _WHOLE_NUMBER.fullmatch(text):
        raise ValueError(f"{where}, field {name}: expected a whole number, got {text[:40]!r}; {_REMEDY}")
    return int(text)


def _array(strings: Mapping[str, str], field: ArrayField, count: int, where: str) -> NDArray[Any]:
    where = f"{where}, field {field.name}"
    try:
        raw = pybase64.b64decode(strings[field.name], validate=True)
    except ValueError as error:
        raise ValueError(f"{where}: expected base64, got text that is none ({error}); {_REMEDY}") from error
    # One row is `columns` wide, or as wide as the bytes make it where any width will do.
    unit = np.dtype(field.dtype).itemsize * (field.columns or 1)
    columns = len(raw) // (unit * count) if count and field.columns == 0 else field.columns or 0
    shape = (count,) if field.columns is None else (count, columns)
    expected = count * (unit if field.columns != 0 else unit * columns)
    if len(raw) != expected:
        raise ValueError(
            f"{where}: expected {field.dtype} of {count} boxes ({_size_text(field, count)}), "
            f"got {len(raw)} bytes; {_REMEDY}"
        )
    return np.frombuffer(raw, dtype=field.dtype).reshape(shape)


def _size_text(field: ArrayField, count: int) -> str:
    unit = np.dtype(field.dtype).itemsize * count * (field.columns or 1)
    return f"a multiple of {unit} bytes" if field.columns == 0 else f"{unit} bytes"
