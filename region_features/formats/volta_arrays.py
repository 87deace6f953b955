"""The record as an LMDB of the form volta-arrays holds it: VOLTA's pickled dict with arrays in place of base64 text.

Sizes and id stay the text that they are in VOLTA's own form. K: boxes of the image.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.formats.portable_pickle import dump_portable
from region_features.formats.volta import read_number
from region_features.records.region_record import ARRAY_FIELDS, FIELD_NAMES, ArrayField, RegionRecord

_REMEDY = "the file is damaged or was written by another program: build it again"
_DTYPES = frozenset(field.dtype for field in ARRAY_FIELDS)


def encode_arrays(record: RegionRecord) -> bytes:
    """Gives a pickled plain dict of the thirteen fields in FIELD_NAMES order: four `str`, nine arrays.

    `classes` is the same array as `cls_prob`, so the pickle stores it once. Plain `pickle.loads` reads it wherever
    numpy is installed.
    """
    values = {name: getattr(record, name) for name in FIELD_NAMES}
    return dump_portable(
        {name: value if isinstance(value, np.ndarray) else str(value) for name, value in values.items()}
    )


def decode_arrays(data: bytes, source: str) -> RegionRecord:
    """Reads a value back, bit for bit; a pickle that asks for anything but arrays of this form is refused.

    Args:
        data: the pickled dict.
        source: the file's name, for messages.

    Returns:
        The record; its arrays are read-only views of the pickle's bytes.

    Raises:
        ValueError: the data is no such pickle, or a field is missing or has not the type, dtype or shape it must have.
    """
    try:
        value = _ArraysUnpickler(io.BytesIO(data)).load()
    except Exception as error:  # a damaged pickle raises whatever its opcodes stumble on
        raise ValueError(f"{source}: expected a pickled dict of text and arrays, got {error!r}; {_REMEDY}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{source}: expected a pickled dict, got a {type(value).__name__}; {_REMEDY}")
    where = f"{source}, image {value.get('img_id', '(unnamed)')}"
    for name in ("img_id", "img_h", "img_w", "num_boxes"):
        if not isinstance(value.get(name), str) or not value[name]:
            raise ValueError(f"{where}, field {name}: expected text, got {_kind(value, name)}; {_REMEDY}")
    count = read_number(value, "num_boxes", where)
    arrays: dict[str, Any] = {field.name: _checked(value, field, count, where) for field in ARRAY_FIELDS}
    if value.get("classes") is not value["cls_prob"]:
        raise ValueError(f"{where}, field classes: expected the array of cls_prob, got another; {_REMEDY}")
    return RegionRecord(
        img_id=value["img_id"],
        img_h=read_number(value, "img_h", where),
        img_w=read_number(value, "img_w", where),
        **arrays,
    )


def _kind(value: Mapping[str, Any], name: str) -> str:
    return f"{type(value[name]).__name__} {str(value[name])[:40]!r}" if name in value else "nothing"


def _checked(value: Mapping[str, Any], field: ArrayField, count: int, where: str) -> NDArray[Any]:
    array = value.get(field.name)
    where = f"{where}, field {field.name}"
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{where}: expected an array, got {_kind(value, field.name)}; {_REMEDY}")
    rank = 1 if field.columns is None else 2
    wanted = (count,) if rank == 1 else (count, field.columns or array.shape[-1] if array.ndim == rank else "any")
    if array.dtype != np.dtype(field.dtype) or array.shape != wanted:
        raise ValueError(
            f"{where}: expected {field.dtype} of shape {wanted}, got {array.dtype.str} of {array.shape}; {_REMEDY}"
        )
    return array


def _as_it_is(array: object) -> object:
    """Stands for numpy.array, whose copy nobody needs here."""
    if not isinstance(array, np.ndarray):
        raise pickle.UnpicklingError(f"the pickle makes an array of a {type(array).__name__}")
    return array


def _array_of_bytes(shape: object, dtype: object, raw: object) -> NDArray[Any]:
    """Stands for numpy.ndarray; makes nothing that the pickle does not hold the bytes of."""
    if not isinstance(raw, bytes) or dtype not in _DTYPES or not isinstance(shape, tuple):
        raise pickle.UnpicklingError(f"the pickle asks for an array of {dtype!r}, shape {shape!r}")
    if not all(isinstance(side, int) and side >= 0 for side in shape) or len(shape) not in (1, 2):
        raise pickle.UnpicklingError(f"the pickle asks for an array of shape {shape!r}")
    found = np.frombuffer(raw, str(dtype))
    if math.prod(shape) != found.size:
        raise pickle.UnpicklingError(f"the pickle asks for shape {shape!r} of {dtype!r}, and has {len(raw)} bytes")
    return found.reshape(shape)


_ADMITTED: Mapping[tuple[str, str], Callable[..., object]] = {
    ("numpy", "array"): _as_it_is,
    ("numpy", "ndarray"): _array_of_bytes,
}


class _ArraysUnpickler(pickle.Unpickler):
    """Loads plain containers, text, bytes and arrays of them."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, which is no array") from None
