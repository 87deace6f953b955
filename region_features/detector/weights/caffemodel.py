"""Read and write Caffe's binary weights (`.caffemodel`, a serialized NetParameter) without Caffe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from region_features.detector.errors import WeightsError
from region_features.detector.weights.caffe_schema import NetParameter

Blobs = tuple[NDArray[np.float32], ...]


def _array(blob: Any, where: str) -> NDArray[np.float32]:
    old_shape = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else old_shape
    data = b"".join(blob.data)
    size = 4 * math.prod(shape)
    if any(dim < 0 for dim in shape) or size != len(data):
        raise WeightsError(
            f"{where}: expected {size} bytes of packed float32 for shape {shape}, got {len(data)}; "
            "the file is damaged, copy it again"
        )
    return np.frombuffer(data, dtype="<f4").reshape(shape)


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
            place = f"{where}, layer {layer_name}"
            layers[layer_name] = tuple(_array(blob, f"{place}, blob {i}") for i, blob in enumerate(layer.blobs))
    if not layers:
        raise WeightsError(
            f"{where}: expected a Caffe model with weights, got no layer that holds any; is it a .prototxt?"
        )
    return layers


def write_caffemodel(path: str | Path, layers: Mapping[str, tuple[str, Sequence[NDArray[np.floating[Any]]]]]) -> None:
    """Write layers in the current form (`layer`, field 100), as Caffe itself snapshots them.

    Args:
        path: local file, replaced.
        layers: layer name -> (Caffe layer type, blobs).
    """
    net = NetParameter(name=b"ResNet")
    for name, (kind, blobs) in layers.items():
        layer = net.layer.add(name=name.encode(), type=kind.encode())
        for blob in blobs:
            layer.blobs.add(shape={"dim": blob.shape}, data=[np.ascontiguousarray(blob, dtype="<f4").tobytes()])
    Path(path).write_bytes(net.SerializeToString())
