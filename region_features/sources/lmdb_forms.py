"""What stands in LMDBs of every program, told by the first value."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from region_features.formats.foreign_record import UNKNOWN_SIZE, record_from_names, record_of
from region_features.formats.npz import decode_file
from region_features.formats.numpy_pickles import load_fields
from region_features.formats.pickles import peek_text
from region_features.formats.uniter import KEY_LIST, NPZ_START, decode_uniter_record, uniter_id
from region_features.lmdb_store.value_codecs import VALUE_CODECS, VOLTA, ValueCodec, codec_name_of
from region_features.records.region_record import RegionRecord
from region_features.sources.base import RELATIVE, STORED, UNKNOWN

_NPY_START, _PICKLE_START = b"\x93NUMPY", b"\x80"
_NUMPY = b"\x8c\x05numpy"  # a pickle names the module of its arrays so; no base64 holds these bytes
ATT, BOX = "_att", "_box"


@dataclass(frozen=True)
class ValueForm:
    """How an LMDB's values are read.

    Attributes:
        kind: the format.
        decode: (values, key, a name for messages) -> the record; ValueError if a value is damaged. There are two values
            where the boxes have an LMDB of their own, else one.
        peek: (first bytes of a value, key) -> the image's id, None if they do not tell it.
        sizes: as `Source.sizes`.
        key_of_id: whether the key must be that of the id.
        boxes: path of the LMDB that holds the boxes, where they have their own.
    """

    kind: str
    decode: Callable[[Sequence[bytes], bytes, str], RegionRecord]
    peek: Callable[[bytes, bytes], str | None]
    sizes: str = STORED
    key_of_id: bool = False
    boxes: str = ""


def form_of(path: str, value: bytes, other_keys: Collection[bytes]) -> ValueForm:
    """Tell the form of an LMDB.

    Args:
        path: of the LMDB.
        value: that of an image; empty if there is none.
        other_keys: the keys of records that are no image's.

    Raises:
        ValueError: its note names a form that this version does not know, or it is only a part of what is needed.
    """
    name = codec_name_of(path)
    if value.startswith(NPZ_START):
        if "norm_bb" in decode_file(value, path, ("norm_bb",)):
            return _UNITER
        boxes = boxes_beside(path)
        return ValueForm("imagecaptioning", _decode_att, _key_itself, UNKNOWN, boxes=boxes)
    if value.startswith(_NPY_START):
        raise ValueError(
            f"{path}: expected features, got one array of each image; name the LMDB that ends in {ATT}.lmdb"
        )
    if value.startswith(_PICKLE_START):
        if b"img_id" not in value and (b"feature_path" in value or b"image_id" in value):
            return ValueForm("mmf", _decode_named, _peek_named)
        if name == VOLTA and _NUMPY in value:
            name = "volta-arrays"
    elif KEY_LIST in other_keys:
        return _UNITER
    elif name == VOLTA and value[8:9] == b"{":
        name = "safetensors"
    codec = VALUE_CODECS[name]
    return ValueForm("lmdb", partial(_decode_own, codec), partial(_peek_own, codec), key_of_id=True)


def boxes_path(path: str) -> str | None:
    """Return where the boxes are that belong to features, beside `cocobu_att.lmdb` for one; None for other names."""
    folder, name = os.path.split(path.rstrip("/"))
    start, mark, end = name.rpartition(ATT)
    return os.path.join(folder, f"{start}{BOX}{end}") if mark else None


def boxes_beside(path: str, exists: Callable[[str], object] = os.path.exists) -> str:
    """Return the path of the LMDB, or folder, of the boxes that belong to features.

    Raises:
        ValueError: there is none; features without boxes are no records.
    """
    boxes = boxes_path(path)
    if boxes is None or not exists(boxes):
        expected = f"the boxes in {boxes}" if boxes else f"a name that ends in {ATT}"
        raise ValueError(f"{path}: expected {expected}, found none; features without boxes cannot be imported")
    return boxes


def _decode_own(codec: ValueCodec, values: Sequence[bytes], key: bytes, where: str) -> RegionRecord:
    return codec.decode(values[0], where)


def _peek_own(codec: ValueCodec, head: bytes, key: bytes) -> str | None:
    return codec.peek(head)


def _decode_named(values: Sequence[bytes], key: bytes, where: str) -> RegionRecord:
    fields = load_fields(values[0], where)
    path, number = fields.get("feature_path"), fields.get("image_id", key.decode())
    img_id = _stem(path) if isinstance(path, str) else str(number)
    return record_from_names(fields, img_id, where)


def _peek_named(head: bytes, key: bytes) -> str | None:
    path = peek_text(head, "feature_path")
    return _stem(path) if path else None


def _stem(feature_path: str) -> str:
    """Return the id in a path that MMF's converter stores, of the features' file below their folder."""
    return feature_path.rpartition("/")[2].removesuffix(".npy")


def _decode_uniter(values: Sequence[bytes], key: bytes, where: str) -> RegionRecord:
    return decode_uniter_record(values[0], uniter_id(key.decode()), where)


def _peek_uniter(head: bytes, key: bytes) -> str | None:
    return uniter_id(key.decode())


_UNITER = ValueForm("uniter", _decode_uniter, _peek_uniter, RELATIVE)


def _key_itself(head: bytes, key: bytes) -> str | None:
    return key.decode()


def _decode_att(values: Sequence[bytes], key: bytes, where: str) -> RegionRecord:
    features, boxes = values
    return decode_att(features, boxes, key.decode(), where)


def decode_att(data: bytes, boxes: bytes, img_id: str, where: str) -> RegionRecord:
    """Build a record of the two files of ImageCaptioning.pytorch; its size is not known.

    Raises:
        ValueError: one of them is damaged, or they do not belong together.
    """
    features = decode_file(data, where, ("feat",)).get("feat")
    arrays = {"features": features, "boxes": decode_file(boxes, f"{where}, boxes").get("array")}
    return record_of(img_id, UNKNOWN_SIZE, arrays, f"{where}, image {img_id}")
