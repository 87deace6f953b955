"""The part of Caffe's `caffe.proto` that holds weights.

Field numbers are those of BVLC Caffe. Packed floats are declared as `repeated bytes`, which has the same wire form, so
that 65 million numbers are read as buffers and not one by one.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

_SCHEMA = """
name: "caffe.proto" package: "caffe" syntax: "proto2"
message_type { name: "BlobShape" field { name: "dim" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "BlobProto"
  field { name: "num" number: 1 type: TYPE_INT32 }
  field { name: "channels" number: 2 type: TYPE_INT32 }
  field { name: "height" number: 3 type: TYPE_INT32 }
  field { name: "width" number: 4 type: TYPE_INT32 }
  field { name: "data" number: 5 label: LABEL_REPEATED type: TYPE_BYTES }
  field { name: "shape" number: 7 type: TYPE_MESSAGE type_name: ".caffe.BlobShape" } }
message_type { name: "LayerParameter"
  field { name: "name" number: 1 type: TYPE_BYTES }
  field { name: "type" number: 2 type: TYPE_BYTES }
  field { name: "blobs" number: 7 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".caffe.BlobProto" } }
message_type { name: "V1LayerParameter"
  field { name: "name" number: 4 type: TYPE_BYTES }
  field { name: "blobs" number: 6 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".caffe.BlobProto" } }
message_type { name: "NetParameter"
  field { name: "name" number: 1 type: TYPE_BYTES }
  field { name: "layers" number: 2 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".caffe.V1LayerParameter" }
  field { name: "layer" number: 100 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".caffe.LayerParameter" } }
"""
# A pool of its own cannot clash with an imported Caffe.
_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto()))
NetParameter: Any = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("caffe.NetParameter"))
