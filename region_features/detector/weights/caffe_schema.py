"""The part of Caffe's `caffe.proto` that weights live in, declared at run time.

Field numbers are those of BVLC Caffe. Packed floats are declared as `repeated bytes`, which has the same wire form, so
that 65 million numbers are read as buffers and not one by one.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "bottom_up_attention.caffe"
_FIELD = descriptor_pb2.FieldDescriptorProto

# message -> (field, number, type, repeated)
_MESSAGES: dict[str, tuple[tuple[str, int, int | str, bool], ...]] = {
    "BlobShape": (("dim", 1, _FIELD.TYPE_INT64, True),),
    "BlobProto": (
        ("num", 1, _FIELD.TYPE_INT32, False),
        ("channels", 2, _FIELD.TYPE_INT32, False),
        ("height", 3, _FIELD.TYPE_INT32, False),
        ("width", 4, _FIELD.TYPE_INT32, False),
        ("data", 5, _FIELD.TYPE_BYTES, True),
        ("shape", 7, "BlobShape", False),
    ),
    "LayerParameter": (
        ("name", 1, _FIELD.TYPE_BYTES, False),
        ("type", 2, _FIELD.TYPE_BYTES, False),
        ("blobs", 7, "BlobProto", True),
    ),
    "V1LayerParameter": (
        ("name", 4, _FIELD.TYPE_BYTES, False),
        ("blobs", 6, "BlobProto", True),
    ),
    "NetParameter": (
        ("name", 1, _FIELD.TYPE_BYTES, False),
        ("layers", 2, "V1LayerParameter", True),
        ("layer", 100, "LayerParameter", True),
    ),
}


def _net_parameter() -> type[Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="bottom_up_attention/caffe_weights.proto", package=_PACKAGE, syntax="proto2"
    )
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, number, kind, repeated in fields:
            field = message.field.add(name=name, number=number)
            field.label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            if isinstance(kind, str):
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = kind  # type: ignore[assignment]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.NetParameter"))


NetParameter = _net_parameter()
