"""safetensors files (JSON header, raw arrays), and the record as the bytes of one: an LMDB value without pickle.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from region_features.formats import REMEDY
from region_features.formats.fields import image_of, record_from_fields
from region_features.formats.half import to_float16
from region_features.records.json_text import parse_json
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord

LAYOUT_KEY = "layout"  # metadata: what the tensors of a file mean
_RECORD_LAYOUT = "region-record-1"
_DTYPES = {"<i8": "I64", "<f4": "F32", "<f2": "F16"}
_HALVED = ("features", "cls_prob", "attrs")  # pixels and single confidences stay float32


def encode_safetensors(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> Iterator[bytes]:
    """Yield a file's bytes in pieces, the same for the same content: the package's writer orders metadata by chance.

    `arrays` are of int64, float32 or float16.
    """
    # The largest items first: every array then begins at a multiple of its item's size.
    ordered = sorted(arrays.items(), key=lambda entry: (-entry[1].itemsize, entry[0]))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name, array in ordered:
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _DTYPES[array.dtype.str], "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the header's end is aligned too
    yield len(text).to_bytes(8, "little") + text
    for _, array in ordered:
        yield array.tobytes()


def encode_record(record: RegionRecord, half: bool) -> bytes:
    """Return the bytes of a file: the eight arrays by name; id, height and width as its metadata.

    `half` stores features, cls_prob and attrs as float16.

    Raises:
        ValueError: a value is too large for float16; names image and field.
    """
    arrays = {field.name: getattr(record, field.name) for field in ARRAY_FIELDS}
    if half:
        arrays |= {name: _to_float16(record, name) for name in _HALVED}
    sizes = {"img_h": str(record.img_h), "img_w": str(record.img_w)}
    return b"".join(encode_safetensors(arrays, {LAYOUT_KEY: _RECORD_LAYOUT, "img_id": record.img_id, **sizes}))


def decode_record(data: bytes, source: str) -> RegionRecord:
    """Read a value back; float16 becomes float32.

    Raises:
        ValueError: the value is cut off, damaged or of another layout, or a field is missing or has not the dtype or
            shape it must have; names file, image and field.
    """
    try:
        arrays = load(data)  # checks each tensor's size and place against the bytes there are
        metadata = _metadata(data)
    except Exception as error:  # the package's own error, and what numpy or json stumble on
        raise ValueError(f"{source}: expected the bytes of a safetensors file, got {error!r}; {REMEDY}") from error
    if metadata.get(LAYOUT_KEY) != _RECORD_LAYOUT:
        where = f"{image_of(metadata, source)}, field {LAYOUT_KEY}"
        raise ValueError(f"{where}: expected {_RECORD_LAYOUT}, got {metadata.get(LAYOUT_KEY)!r}; update this program")
    whole = {name: arrays[name].astype(np.float32) for name in _HALVED if name in arrays and arrays[name].dtype == "f2"}
    return record_from_fields({**metadata, **arrays, **whole}, source)


def peek_id(data: bytes) -> str | None:
    """Return the image's id from the first bytes of a value; None if they do not hold the whole header."""
    try:
        img_id = _metadata(data)["img_id"]
    except Exception:  # cut off, or no such file: whatever json stumbles on
        return None
    return img_id if isinstance(img_id, str) and img_id else None


def rounded_to_float16(record: RegionRecord) -> RegionRecord:
    """Return what comes back from float16: features, cls_prob and attrs rounded to the nearest, float32 again.

    Raises:
        ValueError: a value is too large for float16; names image and field.
    """
    rounded: dict[str, Any] = {name: _to_float16(record, name).astype(np.float32) for name in _HALVED}
    return replace(record, **rounded)


def encode_keys(keys: Sequence[bytes]) -> bytes:
    """Return the value of the record `keys`: a JSON list of the other keys as text."""
    return json.dumps([key.decode() for key in keys], ensure_ascii=False).encode()


def decode_keys(data: bytes, source: str) -> list[bytes]:
    """Read the record `keys` back; ValueError if it is no JSON list of texts."""
    try:
        keys = parse_json(data)
    except ValueError as error:
        raise ValueError(f"{source}, record keys: expected a JSON list, got {error}; {REMEDY}") from error
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError(f"{source}, record keys: expected a JSON list of texts, got something else; {REMEDY}")
    return [key.encode() for key in keys]


def _metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    return parse_json(data[8 : 8 + length].decode()).get("__metadata__") or {}


def _to_float16(record: RegionRecord, name: str) -> NDArray[np.float16]:
    where = f"image {record.img_id}, field {name}"
    return to_float16(getattr(record, name), where, "use a form that keeps float32")
