"""The regions of an image in UNITER's LMDBs: a msgpack map of float16 arrays in the layout of msgpack-numpy.

N: boxes of the image; D: feature width; C: object classes with background.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.formats import REMEDY
from region_features.formats.extras import import_extra
from region_features.formats.foreign_record import record_of
from region_features.formats.half import to_float16
from region_features.formats.npz import decode_file
from region_features.formats.spatial import relative_boxes
from region_features.records.coco import is_coco_id, without_coco
from region_features.records.region_record import RegionRecord

KEY_LIST = b"__keys__"
_SUFFIX = ".npz"
_DTYPES = ("<f2", "<f4")
_FIELDS = ("norm_bb", "features", "conf", "soft_labels")
NPZ_START = b"PK"


def uniter_name(img_id: str, prefix: str) -> str:
    """Return the name under which UNITER's text files have an image, `coco_train2014_000000000009.npz` for one.

    An id of COCO loses its `COCO_`. Without a prefix it gets `coco_`, any other id nothing.
    """
    rest = without_coco(img_id)
    return f"{prefix or ('coco_' if rest != img_id else '')}{rest}{_SUFFIX}"


def encode_uniter(record: RegionRecord) -> bytes:
    """Return the value of an image: `norm_bb` (N, 6), `features` (N, D), `conf` (N,), `soft_labels` (N, C).

    Rows come by falling confidence, equal ones in their order, since the reader takes the first ones.

    Raises:
        ImportError: msgpack is not installed.
        ValueError: a value is too large for float16; names image and field.
    """
    order = np.argsort(-record.objects_conf, kind="stable")
    arrays = {
        "norm_bb": relative_boxes(record),
        "features": record.features,
        "conf": record.objects_conf,
        "soft_labels": record.cls_prob,
    }
    rows = {
        name: to_float16(array[order], f"image {record.img_id}, field {name}", "leave uniter out of --outputs")
        for name, array in arrays.items()
    }
    packed: bytes = import_extra("msgpack").packb(rows, default=_pack_array, use_bin_type=True)
    return packed


def _pack_array(array: NDArray[Any]) -> dict[bytes, Any]:
    return {b"nd": True, b"type": array.dtype.str, b"kind": b"", b"shape": array.shape, b"data": array.tobytes()}


def decode_uniter(data: bytes, source: str) -> Mapping[str, Any]:
    """Read the arrays back by name.

    Raises:
        ImportError: msgpack is not installed.
        ValueError: the value is damaged, or holds something else.
    """
    msgpack = import_extra("msgpack")
    try:
        content = msgpack.unpackb(data, raw=False)
        return {name: _unpack_array(array) for name, array in content.items()}
    except Exception as error:  # damaged bytes raise whatever msgpack and numpy stumble on
        raise ValueError(f"{source}: expected a msgpack map of float16 arrays, got {error!r}; {REMEDY}") from error


def _unpack_array(packed: Mapping[bytes, Any]) -> NDArray[Any]:
    raw, shape, dtype = packed[b"data"], tuple(packed[b"shape"]), packed[b"type"]
    if dtype not in _DTYPES or math.prod(shape) * np.dtype(dtype).itemsize != len(raw):
        raise ValueError(f"{len(raw)} bytes of {dtype!r} for shape {shape}")
    return np.frombuffer(raw, dtype).reshape(shape)


def decode_uniter_record(data: bytes, img_id: str, source: str) -> RegionRecord:
    """Read the value of an image, a msgpack map or the bytes of a compressed npz, as a record of an image of 1 x 1.

    Only the places of the boxes relative to the image are known: its size is. Rows stay in their order.

    Raises:
        ImportError: msgpack is needed and not installed.
        ValueError: the value is damaged, or lacks an array.
    """
    is_npz = data.startswith(NPZ_START)
    fields = decode_file(data, source, _FIELDS) if is_npz else decode_uniter(data, source)
    places = fields.get("norm_bb")
    if not isinstance(places, np.ndarray) or places.ndim != 2 or places.shape[1] < 4:
        raise ValueError(f"{source}, field norm_bb: expected (boxes, 6), got {places!r:.80}; {REMEDY}")
    arrays = {
        "boxes": places[:, :4],
        "features": fields.get("features"),
        "objects_conf": fields.get("conf"),
        "cls_prob": fields.get("soft_labels"),
    }
    return record_of(img_id, (1, 1), arrays, f"{source}, image {img_id}")


def uniter_id(name: str) -> str:
    """Return the id of an image that UNITER's files name so: COCO's own for `coco_train2014_000000000009.npz`."""
    stem = name.removesuffix(_SUFFIX)
    of_coco = f"COCO_{stem.removeprefix('coco_')}"
    return of_coco if stem.startswith("coco_") and is_coco_id(of_coco) else stem


def encode_key_list(keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
    """Return the record `__keys__`: a JSON list of all other keys."""
    return {KEY_LIST: json.dumps([key.decode() for key in keys]).encode()}
