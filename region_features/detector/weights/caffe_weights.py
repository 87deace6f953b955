"""The layers of the original's `.caffemodel` as this network's depth, widths and named weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from region_features.detector.errors import WeightsError
from region_features.detector.weights.caffemodel import Blobs, read_caffemodel
from region_features.detector.weights.messages import missing_layer
from region_features.detector.weights.state import (
    ATTRIBUTE_HEAD,
    PREDICTOR,
    RPN,
    STEM,
    Shape,
    Weights,
    read_architecture,
    stage_prefix,
    state_shapes,
)

# Module -> Caffe layer, but for the residual blocks.
_LAYERS = {
    STEM: "conv1",
    f"{RPN}.conv": "rpn_conv/3x3",
    f"{RPN}.objectness_logits": "rpn_cls_score",
    f"{RPN}.anchor_deltas": "rpn_bbox_pred",
    **{f"{PREDICTOR}.{name}": name for name in ("cls_score", "cls_embedding", "fc_attr", "attr_score")},
}
_BRANCHES = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}
_BLOCK = re.compile(r"res([2-5])([a-z][0-9]{0,4})_branch2a")
_ARRAY = re.compile(r"(.+?)\.((?:norm\.)?\w+)")  # module and key of an array's name


class _CaffeFile:
    """A file's blobs by module, with errors that name the file and the layer."""

    def __init__(self, blobs: Mapping[str, Blobs], where: str) -> None:
        self.where = where
        self.blobs = blobs
        self.block_counts = []
        self._layers = dict(_LAYERS)
        for number in range(2, 6):
            suffixes = self._block_suffixes(number)
            self.block_counts.append(len(suffixes))
            for index, suffix in enumerate(suffixes):
                for conv, branch in _BRANCHES.items():
                    self._layers[f"{stage_prefix(number)}.{index}.{conv}"] = f"res{number}{suffix}_{branch}"

    def _block_suffixes(self, number: int) -> list[str]:
        """Return the suffixes of a stage's blocks in order: a, b, c or a, b1, b2, ..."""
        matches = [match for match in map(_BLOCK.fullmatch, self.blobs) if match and int(match[1]) == number]
        suffixes = sorted((match[2] for match in matches), key=lambda suffix: (suffix[0], int(suffix[1:] or 0)))
        if "a" not in suffixes:
            raise missing_layer(self.where, f"res{number}a_branch2a", self.blobs)
        return suffixes

    def has(self, module: str) -> bool:
        """Return whether the file has a module's layer."""
        return self._layers[module] in self.blobs

    def size(self, module: str, axis: int, dims: int) -> int:
        """Return one dimension of a module's weight, which has `dims` dimensions."""
        layer = self._layers[module]
        shape = self._blob(layer, 0).shape
        if len(shape) < dims or 0 in shape:
            raise WeightsError(f"{self.where}, layer {layer}: expected weights of {dims} dimensions, got {shape}")
        return shape[len(shape) - dims + axis]

    def array(self, name: str, shape: Shape) -> NDArray[np.float32]:
        """Return an array of the network's state by its name; BatchNorm and Scale layers become one normalisation."""
        match = _ARRAY.fullmatch(name)
        assert match
        layer, key = self._layers[match[1]], match[2]
        suffix = layer.removeprefix("res") if layer.startswith("res") else f"_{layer}"
        if key in ("weight", "bias"):
            return self._shaped(layer, int(key == "bias"), shape)
        if key in ("norm.weight", "norm.bias"):
            return self._shaped(f"scale{suffix}", int(key == "norm.bias"), shape)
        stored = float(self._shaped(f"bn{suffix}", 2, (1,))[0])
        if math.isinf(stored):  # a division by it would leave zeros
            raise WeightsError(f"{self.where}, layer bn{suffix}, blob 2: expected a finite factor, got {stored}")
        factor = np.float32(0 if stored == 0 else 1 / stored)
        if key == "norm.running_var":
            return self._shaped(f"bn{suffix}", 1, shape) * factor
        mean = self._shaped(f"bn{suffix}", 0, shape) * factor
        # A convolution's bias moves the mean.
        return mean - self._shaped(layer, 1, shape) if len(self.blobs[layer]) > 1 else mean

    def _blob(self, layer: str, index: int) -> NDArray[np.float32]:
        blobs = self.blobs.get(layer)
        if blobs is None:
            raise missing_layer(self.where, layer, self.blobs)
        if index >= len(blobs):
            raise WeightsError(f"{self.where}, layer {layer}: expected at least {index + 1} blobs, got {len(blobs)}")
        return blobs[index]

    def _shaped(self, layer: str, index: int, shape: Shape) -> NDArray[np.float32]:
        """Return a blob in a given shape; old files write vectors and matrices with leading ones."""
        blob = self._blob(layer, index)
        extra = blob.ndim - len(shape)
        if extra < 0 or blob.shape[extra:] != shape or any(dim != 1 for dim in blob.shape[:extra]):
            raise WeightsError(f"{self.where}, layer {layer}, blob {index}: expected shape {shape}, got {blob.shape}")
        return blob.reshape(shape)


def read_caffe_weights(path: str | Path, name: str | None = None) -> Weights:
    """Read the original's weights; depth and widths come from the blobs.

    Args:
        path: local `.caffemodel`; layers that the network does not need (data, loss, `bbox_pred`) are ignored.
        name: the file's name for the user, for errors; default the path.

    Returns:
        Architecture and weights; batch normalisation is not folded, but its stored factor is divided out.

    Raises:
        WeightsError: the file is no Caffe model or cut short, a layer is missing or a blob has the wrong shape; names
            file and layer.
        OSError: the file cannot be read.
    """
    where = name or str(path)
    file = _CaffeFile(read_caffemodel(path, where), where)
    architecture = read_architecture(file.size, file.block_counts, any(map(file.has, ATTRIBUTE_HEAD)))
    shapes = state_shapes(architecture)
    return Weights(architecture, {name: file.array(name, shape) for name, shape in shapes.items()})
