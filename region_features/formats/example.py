"""The record as a `tf.train.Example`, with its captions and its image's checksum.

Feature names follow the TensorFlow Object Detection API for predictions; arrays that must come back bit for bit are raw
little-endian bytes in `region/NAME`, with `/shape` and `/dtype` beside it. K: boxes of the image.

The message class is built from TensorFlow's public schema (tensorflow/core/example/{feature,example}.proto), so that no
worker imports tensorflow; the bytes are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from region_features.formats import REMEDY
from region_features.records.region_record import ARRAY_FIELDS, ArrayField, RegionRecord

_TOLD = ("image/caption", "image/caption/id", "image/split")
_BYTES, _FLOATS, _INTEGERS = "bytes_list", "float_list", "int64_list"
_BOX_SIDES = (("xmin", "img_w"), ("ymin", "img_h"), ("xmax", "img_w"), ("ymax", "img_h"))
# Left out where the record lacks the array.
_OF_CLASSES = {
    "image/detection/label": (_INTEGERS, "objects_id"),
    "image/detection/score": (_FLOATS, "objects_conf"),
}


@dataclass(frozen=True, eq=False)
class ImageExample:
    """The content of a shard for one image; ValueError if the numbers of captions and caption ids differ."""

    record: RegionRecord
    filename: str  # base name of the image file
    sha256: str  # hex digest of the image file
    captions: tuple[str, ...] = ()  # raw sentences of the caption file, possibly none
    caption_ids: tuple[int, ...] = ()  # the sentid of each caption
    split: str = ""  # Karpathy's split; empty if there is none

    def __post_init__(self) -> None:
        if len(self.captions) != len(self.caption_ids):
            raise ValueError(
                f"image {self.record.img_id}: expected one caption id a caption, got {len(self.captions)} captions and "
                f"{len(self.caption_ids)} ids; is the caption file damaged?"
            )


def encode_example(example: ImageExample) -> bytes:
    """Return the bytes that `tf.train.Example.SerializeToString(deterministic=True)` writes for the image.

    Features of missing captions or a missing split are left out: `VarLenFeature` then reads an empty list and
    `FixedLenFeature` its default, while a present empty list breaks the latter. An image without boxes has its lists,
    empty.

    Raises:
        ValueError: the image has no size, or a text is not valid Unicode; names the image and the feature.
    """
    record = example.record
    if record.img_h < 1 or record.img_w < 1:
        raise ValueError(
            f"image {record.img_id}: expected a height and width of at least 1, got {record.img_h} and {record.img_w}; "
            "was the image read?"
        )
    message = _EXAMPLE()

    def put(name: str, kind: str, values: Iterable[Any]) -> None:
        # Filling the map is ten times as fast as copying Feature messages into it.
        feature = getattr(message.features.feature[name], kind)
        feature.SetInParent()  # an empty list is present too
        feature.value.extend(values)

    def put_texts(name: str, *texts: str) -> None:
        try:
            put(name, _BYTES, [text.encode() for text in texts])
        except UnicodeEncodeError as error:
            raise ValueError(
                f"image {record.img_id!r}, feature {name}: expected valid Unicode, got {error.object!r}; "
                "correct it where it comes from"
            ) from error

    put_texts("image/source_id", record.img_id)
    put_texts("image/filename", example.filename)
    put_texts("image/key/sha256", example.sha256)
    put("image/height", _INTEGERS, [record.img_h])
    put("image/width", _INTEGERS, [record.img_w])
    if example.captions:
        put_texts("image/caption", *example.captions)
        put("image/caption/id", _INTEGERS, example.caption_ids)
    if example.split:
        put_texts("image/split", example.split)
    for column, (side, pixels) in enumerate(_BOX_SIDES):
        relative = record.boxes[:, column] / np.float32(getattr(record, pixels))
        put(f"image/detection/bbox/{side}", _FLOATS, relative.tolist())
    if not record.lacks("objects_id"):
        put("image/detection/label", _INTEGERS, (record.objects_id + 1).tolist())
    if not record.lacks("objects_conf"):
        put("image/detection/score", _FLOATS, record.objects_conf.tolist())
    put("region/count", _INTEGERS, [record.num_boxes])
    for field in ARRAY_FIELDS:
        array = getattr(record, field.name)
        put(f"region/{field.name}", _BYTES, [array.tobytes()])
        put(f"region/{field.name}/shape", _INTEGERS, array.shape)
        put_texts(f"region/{field.name}/dtype", array.dtype.name)
    return message.SerializeToString(deterministic=True)


def _parse(data: bytes, source: str) -> Any:
    try:
        return _EXAMPLE.FromString(data)
    except DecodeError as error:
        raise ValueError(f"{source}: expected a tf.train.Example, got {len(data)} other bytes; {REMEDY}") from error


def open_example(data: bytes, source: str) -> tuple[str, FeatureReader]:
    """Parse a message without decoding its features.

    Returns:
        The img_id, and a reader of the features whose errors name file and image.

    Raises:
        ValueError: the data is no `tf.train.Example`, or has no `image/source_id`.
    """
    features = _parse(data, source).features.feature
    img_id = FeatureReader(features, source).text("image/source_id")
    return img_id, FeatureReader(features, f"{source}, image {img_id}")


def decode_example(data: bytes, source: str) -> ImageExample:
    """Read an example back, bit for bit; its arrays are read-only views of the message's bytes.

    Raises:
        ValueError: a feature is missing or of a wrong type, shape or byte count; names file, image and feature.
    """
    img_id, reader = open_example(data, source)
    count = reader.number("region/count")
    for side, _ in _BOX_SIDES:
        reader.values(f"image/detection/bbox/{side}", _FLOATS, count)
    arrays: dict[str, Any] = {field.name: reader.array(field, count) for field in ARRAY_FIELDS}
    for name, (kind, source_field) in _OF_CLASSES.items():
        if arrays[source_field].size or not count:
            reader.values(name, kind, count)
    captions: tuple[str, ...] = ()
    caption_ids: tuple[int, ...] = ()
    if "image/caption" in reader or "image/caption/id" in reader:
        captions = reader.texts("image/caption")
        caption_ids = tuple(reader.values("image/caption/id", _INTEGERS, len(captions)))
    return ImageExample(
        record=RegionRecord(img_id, reader.number("image/height"), reader.number("image/width"), **arrays),
        filename=reader.text("image/filename"),
        sha256=reader.text("image/key/sha256"),
        captions=captions,
        caption_ids=caption_ids,
        split=reader.text("image/split") if "image/split" in reader else "",
    )


def retell(
    data: bytes, source: str, captions: Sequence[str], caption_ids: Sequence[int], split: str
) -> tuple[str, str, bytes]:
    """Give an example other captions; its arrays are not decoded.

    Returns:
        The img_id, the hex SHA-256 of the image file, and the bytes that `encode_example` writes with these captions.

    Raises:
        ValueError: the data is no `tf.train.Example`, or lacks a feature; names file, image and feature.
    """
    message = _parse(data, source)
    features = message.features.feature
    reader = FeatureReader(features, source)
    img_id, sha256 = reader.text("image/source_id"), reader.text("image/key/sha256")
    for name in _TOLD:
        if name in features:
            del features[name]
    if captions:
        features[_TOLD[0]].bytes_list.value.extend(caption.encode() for caption in captions)
        features[_TOLD[1]].int64_list.value.extend(caption_ids)
    if split:
        features[_TOLD[2]].bytes_list.value.append(split.encode())
    return img_id, sha256, message.SerializeToString(deterministic=True)


class FeatureReader:
    """Read checked values from a message's feature map."""

    def __init__(self, features: Any, where: str) -> None:
        self._features = features
        self._where = where

    def __contains__(self, name: str) -> bool:
        return name in self._features

    def error(self, name: str, expected: object, got: object) -> ValueError:
        """Return an error that names file, image and feature."""
        return ValueError(f"{self._where}, feature {name}: expected {expected}, got {got}; {REMEDY}")

    def values(self, name: str, kind: str, count: int | None = None) -> Any:
        """Return a feature's list of this kind, of `count` values if given."""
        if name not in self._features:  # the look-up below would add it
            raise self.error(name, f"a {kind}", "nothing")
        feature = self._features[name]
        if feature.WhichOneof("kind") != kind:
            raise self.error(name, f"a {kind}", feature.WhichOneof("kind") or "an empty feature")
        values = getattr(feature, kind).value
        if count is not None and len(values) != count:
            raise self.error(name, f"{count} values", len(values))
        return values

    def number(self, name: str) -> int:
        """Return the whole number in a feature of one value."""
        number = int(self.values(name, _INTEGERS, 1)[0])
        if number < 0:
            raise self.error(name, "a number from 0", number)
        return number

    def texts(self, name: str, count: int | None = None) -> tuple[str, ...]:
        """Return a feature's texts."""
        try:
            return tuple(value.decode() for value in self.values(name, _BYTES, count))
        except UnicodeDecodeError as error:
            raise self.error(name, "UTF-8 text", f"the byte {error.object[error.start]:#04x}") from error

    def text(self, name: str) -> str:
        """Return the text in a feature of one value."""
        return self.texts(name, 1)[0]

    def array(self, field: ArrayField, count: int) -> NDArray[Any]:
        """Return the array of a field for `count` boxes, a read-only view of the message's bytes."""
        name = f"region/{field.name}"
        dtype = np.dtype(field.dtype)
        stored = self.text(f"{name}/dtype")
        if stored != dtype.name:
            raise self.error(f"{name}/dtype", dtype.name, stored)
        shape = tuple(self.values(f"{name}/shape", _INTEGERS, 1 if field.columns is None else 2))
        missing = field.columns is None and shape == (0,)
        if (shape[0] != count and not missing) or min(shape) < 0 or (field.columns and shape[1] != field.columns):
            row = () if field.columns is None else (field.columns or "any",)
            raise self.error(f"{name}/shape", (count, *row), shape)
        raw = self.values(name, _BYTES, 1)[0]
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise self.error(name, f"{math.prod(shape) * dtype.itemsize} bytes for shape {shape}", f"{len(raw)} bytes")
        return np.frombuffer(raw, dtype=dtype).reshape(shape)


# tensorflow/core/example/{feature,example}.proto, in a pool of its own, which cannot clash with an imported tensorflow.
_SCHEMA = """
name: "example.proto" package: "tensorflow" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "Feature" oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 oneof_index: 0 type: TYPE_MESSAGE type_name: ".tensorflow.BytesList" }
  field { name: "float_list" number: 2 oneof_index: 0 type: TYPE_MESSAGE type_name: ".tensorflow.FloatList" }
  field { name: "int64_list" number: 3 oneof_index: 0 type: TYPE_MESSAGE type_name: ".tensorflow.Int64List" } }
message_type { name: "Features"
  field {
    name: "feature" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".tensorflow.Features.FeatureEntry" }
  nested_type { name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".tensorflow.Feature" } } }
message_type { name: "Example"
  field { name: "features" number: 1 type: TYPE_MESSAGE type_name: ".tensorflow.Features" } }
"""
_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto()))
_EXAMPLE: Any = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("tensorflow.Example"))
