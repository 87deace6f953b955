"""Read Caffe's binary weights (`.caffemodel`, a serialized NetParameter) without Caffe.

The schema is the part of BVLC Caffe's `caffe.proto` that holds weights. Packed floats are declared as `repeated bytes`,
which has the same wire form, so that 65 million numbers are read as buffers and not one by one.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from region_features.detector.errors import WeightsError
from region_features.detector.weights.messages import printable

Blobs = tuple[NDArray[np.float32], ...]
_MOST_DIMS = 32  # of Caffe's kMaxBlobAxes
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


def _array(blob: Any, where: str) -> NDArray[np.float32]:
    old_shape = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else old_shape
    data = b"".join(blob.data)
    if len(shape) > _MOST_DIMS:
        raise WeightsError(f"{where}: expected at most {_MOST_DIMS} dimensions, got {len(shape)}; copy the file again")
    size = 4 * math.prod(shape)
    if any(dim < 0 for dim in shape) or size != len(data):
        raise WeightsError(
            f"{where}: expected {size} bytes of packed float32 for shape {shape}, got {len(data)}; "
            "the file is damaged, copy it again"
        )
    try:
        return np.frombuffer(data, dtype="<f4").reshape(shape)
    except ValueError as error:  # an empty array of more numbers than numpy counts
        raise WeightsError(f"{where}: shape {shape}: {error}; the file is damaged, copy it again") from error


def read_caffemodel(path: str | Path, name: str | None = None) -> dict[str, Blobs]:
    """Read every layer that holds weights, of both the current and the V1 layer fields.

    Args:
        path: local file.
        name: the file's name for the user, for errors; default the path.

    Returns:
        Layer name -> its blobs, float32, read-only, in the file's order.

    Raises:
        WeightsError: the file is no NetParameter, is cut short, or a blob's size contradicts its shape.
        OSError: the file cannot be read.
    """
    where = name or str(path)
    net = NetParameter()
    try:
        net.ParseFromString(Path(path).read_bytes())
    except DecodeError as error:
        raise WeightsError(
            f"{where}: expected a Caffe model (serialized NetParameter) or another known format of weights, got "
            "something else or a file cut short; check what it is and copy it again"
        ) from error
    layers: dict[str, Blobs] = {}
    for layer in (*net.layers, *net.layer):
        if layer.blobs:
            layer_name = layer.name.decode("utf-8", "backslashreplace")
            place = f"{where}, layer {printable(layer_name)}"
            layers[layer_name] = tuple(_array(blob, f"{place}, blob {i}") for i, blob in enumerate(layer.blobs))
    if not layers:
        raise WeightsError(
            f"{where}: expected a Caffe model with weights, got no layer that holds any; is it a .prototxt?"
        )
    return layers
