"""The record as an LMDB of a compact form holds it: no pickle, a msgpack header and the arrays' bytes after it.

`docs/lmdb_forms.md` describes the layout byte by byte. K: boxes of the image.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import msgpack
import numpy as np
from numpy.typing import NDArray

from region_features.records.region_record import ARRAY_FIELDS, ArrayField, RegionRecord

MAGIC, VERSION = b"RGNF", 1
_PREFIX = struct.Struct("<4sHH")  # magic, version, bytes of the header
_MAX_HEADER = (1 << 16) - 1
_ALIGNMENT = 8
_HALVED = frozenset({"features", "cls_prob", "attrs"})  # pixels and single confidences stay float32
_ZSTD_LEVEL = 3
_MAX_BYTES = 1 << 30  # of a record's arrays: what a damaged header can ask for at most
_REMEDY = "the LMDB is damaged or was written by another program: build it again"
# Whole numbers first: every array then begins at a multiple of its item's size.
_ORDER = sorted(ARRAY_FIELDS, key=lambda field: field.dtype != "<i8")
_FIELDS = {field.name: field for field in ARRAY_FIELDS}


def to_float16(record: RegionRecord) -> RegionRecord:
    """What of a record comes back from float16: features, cls_prob and attrs rounded to the nearest, float32 again.

    Raises:
        ValueError: a value is too large for float16; names image and field.
    """
    rounded: dict[str, Any] = {name: _halved(record, name).astype(np.float32) for name in _HALVED}
    return replace(record, **rounded)


def encode_compact(record: RegionRecord, half: bool = False, zstd: bool = False) -> bytes:
    """Gives a value of the LMDB.

    Args:
        record: the image.
        half: features, cls_prob and attrs as float16.
        zstd: the arrays' bytes as one Zstandard frame.

    Raises:
        ValueError: a value is too large for float16, or the record too large for the form; names the image.
    """
    arrays = [_halved(record, f.name) if half and f.name in _HALVED else getattr(record, f.name) for f in _ORDER]
    size = sum(array.nbytes for array in arrays)
    if size > _MAX_BYTES:
        raise ValueError(f"image {record.img_id}: expected arrays of at most {_MAX_BYTES:,} bytes, got {size:,}")
    pieces: list[Any] = [np.ascontiguousarray(array).data.cast("B") if array.size else b"" for array in arrays]
    if zstd:
        compressor = _zstandard("the form asks for compression").ZstdCompressor(_ZSTD_LEVEL, write_checksum=True)
        pieces = [compressor.compress(b"".join(pieces))]
    header = msgpack.packb(
        {
            "img_id": record.img_id,
            "img_h": record.img_h,
            "img_w": record.img_w,
            "arrays": [
                [field.name, array.dtype.str, list(array.shape)] for field, array in zip(_ORDER, arrays, strict=True)
            ],
            "compression": "zstd" if zstd else "none",
            "bytes": sum(len(piece) for piece in pieces),
        }
    )
    if len(header) > _MAX_HEADER:
        raise ValueError(
            f"image {record.img_id[:64]}...: expected an id of at most 60,000 bytes; shorten the file name"
        )
    start = _aligned(_PREFIX.size + len(header))
    prefix = _PREFIX.pack(MAGIC, VERSION, len(header))
    return b"".join([(prefix + header).ljust(start, b"\0"), *pieces])


def _halved(record: RegionRecord, name: str) -> NDArray[np.float16]:
    array = getattr(record, name)
    with np.errstate(over="ignore"):
        half = array.astype("<f2")
    if np.count_nonzero(np.isinf(half)) != np.count_nonzero(np.isinf(array)):
        raise ValueError(
            f"image {record.img_id}, field {name}: expected values within {np.finfo(np.float16).max:.0f} of zero, as "
            f"float16 holds, got {np.abs(array).max():g}; use a form that keeps float32"
        )
    return half


class _Header(NamedTuple):
    """A value's header, checked, and the byte at which the arrays' bytes begin."""

    img_id: str
    img_h: int
    img_w: int
    arrays: tuple[tuple[ArrayField, np.dtype[Any], tuple[int, ...]], ...]
    zstd: bool
    stored: int
    start: int

    @property
    def size(self) -> int:
        return sum(math.prod(shape) * dtype.itemsize for _, dtype, shape in self.arrays)


def decode_compact(data: bytes, source: str) -> RegionRecord:
    """Reads a value of any compact form.

    Args:
        data: the value.
        source: the file's name and the key, for messages.

    Returns:
        The record; float32 arrays that were stored so are read-only views of `data`.

    Raises:
        ValueError: the value is cut off, of another format or version, or its lengths disagree; or it is compressed
            and zstandard is not installed. Names the field.
    """
    header = _read_header(data, source)
    where = f"{source}, image {header.img_id}"
    if len(data) - header.start != header.stored:
        raise ValueError(
            f"{where}: expected {header.stored} bytes after its header, got {len(data) - header.start}; {_REMEDY}"
        )
    raw, start = (_decompressed(data, header, where), 0) if header.zstd else (data, header.start)
    arrays: dict[str, Any] = {}
    for field, dtype, shape in header.arrays:
        array = np.frombuffer(raw, dtype, math.prod(shape), start).reshape(shape) if 0 not in shape else None
        arrays[field.name] = np.zeros(shape, field.dtype) if array is None else array.astype(field.dtype, copy=False)
        start += math.prod(shape) * dtype.itemsize
    return RegionRecord(header.img_id, header.img_h, header.img_w, **arrays)


def peek_compact(data: bytes) -> str | None:
    """The image's id from the first bytes of a value, None where they do not tell."""
    try:
        return _read_header(data, "").img_id
    except ValueError:
        return None


def _read_header(data: bytes, source: str) -> _Header:
    if len(data) < _PREFIX.size or not data.startswith(MAGIC):
        raise ValueError(f"{source}, field magic: expected {MAGIC!r}, got {bytes(data[:4])!r}; {_REMEDY}")
    _, version, length = _PREFIX.unpack_from(data)
    if version != VERSION:
        raise ValueError(f"{source}, field version: expected {VERSION}, got {version}; update this program")
    packed = data[_PREFIX.size : _PREFIX.size + length]
    if len(packed) != length:
        raise ValueError(f"{source}, field header: expected {length} bytes, got {len(packed)}; {_REMEDY}")
    try:
        header = msgpack.unpackb(packed)
    except Exception as error:  # msgpack's own kinds, and those of the texts in it
        raise ValueError(f"{source}, field header: expected msgpack, got {error!r}; {_REMEDY}") from error
    if not isinstance(header, dict):
        raise ValueError(f"{source}, field header: expected a map, got a {type(header).__name__}; {_REMEDY}")
    img_id = header.get("img_id")
    if not isinstance(img_id, str) or not img_id:
        raise ValueError(f"{source}, field img_id: expected a file stem, got {img_id!r:.60}; {_REMEDY}")
    where = f"{source}, image {img_id}"
    height, width, stored = (_number(header, name, where) for name in ("img_h", "img_w", "bytes"))
    if header.get("compression") not in ("none", "zstd"):
        got = header.get("compression")
        raise ValueError(f"{where}, field compression: expected none or zstd, got {got!r:.60}; update this program")
    zstd = header["compression"] == "zstd"
    start = _aligned(_PREFIX.size + length)
    found = _Header(img_id, height, width, tuple(_shapes(header.get("arrays"), where)), zstd, stored, start)
    if found.size > _MAX_BYTES or not (found.zstd or found.size == found.stored):
        limit = f"at most {_MAX_BYTES}" if found.size > _MAX_BYTES else found.size
        raise ValueError(
            f"{where}, field bytes: expected {limit} for the shapes in the header, got {found.stored}; {_REMEDY}"
        )
    return found


def _shapes(listed: object, where: str) -> Sequence[tuple[ArrayField, np.dtype[Any], tuple[int, ...]]]:
    where = f"{where}, field arrays"
    rows = listed if isinstance(listed, list) else []
    names = [row[0] if isinstance(row, list) and len(row) == 3 else None for row in rows]
    if len(names) != len(_FIELDS) or not all(name in names for name in _FIELDS):
        raise ValueError(f"{where}: expected those of {', '.join(_FIELDS)}, got {names!r:.200}; {_REMEDY}")
    found = []
    for name, dtype, shape in rows:
        field = _FIELDS[name]
        if dtype != field.dtype and (dtype, name in _HALVED) != ("<f2", True):
            raise ValueError(f"{where}, {name}: expected dtype {field.dtype}, got {dtype!r:.60}; {_REMEDY}")
        rank = 1 if field.columns is None else 2
        sides = shape if isinstance(shape, list) else []
        if len(sides) != rank or not all(type(side) is int and 0 <= side < 1 << 32 for side in sides):
            raise ValueError(f"{where}, {name}: expected a shape of {rank} numbers, got {shape!r:.60}; {_REMEDY}")
        found.append((field, np.dtype(dtype), tuple(sides)))
    counts = {shape[0] for _, _, shape in found}
    if len(counts) != 1 or any(field.columns and shape[1] != field.columns for field, _, shape in found):
        shapes = {field.name: shape for field, _, shape in found}
        raise ValueError(f"{where}: expected as many rows in each and boxes of 4, got {shapes}; {_REMEDY}")
    return found


def _number(header: Mapping[str, object], name: str, where: str) -> int:
    value = header.get(name)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{where}, field {name}: expected a whole number, got {value!r:.60}; {_REMEDY}")
    return value


def _decompressed(data: bytes, header: _Header, where: str) -> bytes:
    zstandard = _zstandard(where)
    frame = memoryview(data)[header.start :]
    try:
        size = zstandard.frame_content_size(frame)
        if size != header.size:
            raise ValueError(f"{where}, field bytes: expected a frame of {header.size} bytes, got {size}; {_REMEDY}")
        return zstandard.ZstdDecompressor().decompress(frame)
    except zstandard.ZstdError as error:
        raise ValueError(f"{where}, field bytes: expected a whole Zstandard frame, got {error}; {_REMEDY}") from error


def _zstandard(where: str) -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise ValueError(f"{where}: expected the package zstandard, found none; pip install zstandard") from error
    return zstandard


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def encode_json_keys(keys: Sequence[bytes]) -> bytes:
    """The record `keys`: a JSON list of the other keys as text."""
    return json.dumps([key.decode() for key in keys], ensure_ascii=False).encode()


def decode_json_keys(data: bytes, source: str) -> list[bytes]:
    """Reads the record `keys` back.

    Raises:
        ValueError: it is no JSON list of texts.
    """
    try:
        keys = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source}, record keys: expected a JSON list, got {error}; {_REMEDY}") from error
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError(f"{source}, record keys: expected a JSON list of texts, got something else; {_REMEDY}")
    return [key.encode() for key in keys]
