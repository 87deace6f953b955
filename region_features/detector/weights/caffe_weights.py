"""From the layers of the original's `.caffemodel` to this network's depth, widths and named weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from region_features.detector.architecture import ANCHORS, RESNET_101, Architecture, Stage
from region_features.detector.errors import WeightsError
from region_features.detector.weights.caffemodel import Blobs, layer_names, read_caffemodel
from region_features.detector.weights.state import PREDICTOR, RPN, State, Weights, stage_prefix

_ATTRIBUTE_LAYERS = ("cls_embedding", "fc_attr", "attr_score")
_BLOCK = re.compile(r"res([2-5])([a-z]\d*)_branch2a")


@dataclass(frozen=True)
class _Layers:
    """The file's layers, with errors that name the file and the layer."""

    path: str
    blobs: Mapping[str, Blobs]

    def blob(self, layer: str, index: int) -> NDArray[np.float32]:
        found = self.blobs.get(layer)
        if found is None:
            raise WeightsError(
                f"{self.path}: layer {layer} is missing; expected the bottom-up-attention network, got a file with "
                f"{layer_names(self.blobs)}"
            )
        if index >= len(found):
            raise WeightsError(f"{self.path}, layer {layer}: expected at least {index + 1} blobs, got {len(found)}")
        return found[index]

    def shaped(self, layer: str, index: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A blob in the shape asked for; old files write vectors and matrices with leading ones."""
        blob = self.blob(layer, index)
        extra = blob.ndim - len(shape)
        if extra < 0 or blob.shape[extra:] != shape or any(dim != 1 for dim in blob.shape[:extra]):
            raise WeightsError(f"{self.path}, layer {layer}, blob {index}: expected shape {shape}, got {blob.shape}")
        return blob.reshape(shape)

    def size(self, layer: str, axis: int, dims: int) -> int:
        """One dimension of a layer's weights, which have `dims` dimensions."""
        blob = self.blob(layer, 0)
        if blob.ndim < dims or blob.size == 0:
            raise WeightsError(f"{self.path}, layer {layer}: expected weights of {dims} dimensions, got {blob.shape}")
        return int(blob.shape[blob.ndim - dims + axis])


def _block_names(layers: _Layers) -> list[list[str]]:
    """Names of the residual blocks of res2 to res5, in order: a, b, c or a, b1, b2, ..."""
    found: dict[int, list[tuple[str, int]]] = {2: [], 3: [], 4: [], 5: []}
    for name in layers.blobs:
        match = _BLOCK.fullmatch(name)
        if match:
            suffix = match.group(2)
            found[int(match.group(1))].append((suffix[0], int(suffix[1:] or 0)))
    names = []
    for stage, suffixes in found.items():
        if (("a", 0)) not in suffixes:
            layers.blob(f"res{stage}a_branch2a", 0)
        names.append([f"{stage}{letter}{number or ''}" for letter, number in sorted(suffixes)])
    return names


def _architecture(layers: _Layers, names: list[list[str]]) -> Architecture:
    stages = tuple(
        Stage(
            blocks=len(blocks),
            bottleneck=layers.size(f"res{blocks[0]}_branch2a", 0, 4),
            channels=layers.size(f"res{blocks[0]}_branch2c", 0, 4),
        )
        for blocks in names
    )
    has_attributes = any(layer in layers.blobs for layer in _ATTRIBUTE_LAYERS)
    return Architecture(
        stem=layers.size("conv1", 0, 4),
        stages=(stages[0], stages[1], stages[2], stages[3]),
        rpn=layers.size("rpn_conv/3x3", 0, 4),
        classes=layers.size("cls_score", 0, 2) - 1,
        attributes=layers.size("attr_score", 0, 2) - 1 if has_attributes else RESNET_101.attributes,
        embedding=layers.size("cls_embedding", 1, 2) if has_attributes else 0,
        attribute_hidden=layers.size("fc_attr", 0, 2) if has_attributes else 0,
    )


def _normalised(layers: _Layers, conv: str, suffix: str, shape: tuple[int, ...]) -> State:
    """A convolution with its BatchNorm and Scale layers."""
    channels = shape[:1]
    norm, scale = f"bn{suffix}", f"scale{suffix}"
    stored = float(layers.shaped(norm, 2, (1,))[0])
    factor = np.float32(0 if stored == 0 else 1 / stored)
    mean = layers.shaped(norm, 0, channels) * factor
    if len(layers.blobs[conv]) > 1:
        mean = mean - layers.shaped(conv, 1, channels)
    return {
        "weight": layers.shaped(conv, 0, shape),
        "norm.weight": layers.shaped(scale, 0, channels),
        "norm.bias": layers.shaped(scale, 1, channels),
        "norm.running_mean": mean,
        "norm.running_var": layers.shaped(norm, 1, channels) * factor,
    }


def _block(layers: _Layers, name: str, inputs: int, stage: Stage, projection: bool) -> State:
    shapes = {
        "conv1": ("branch2a", (stage.bottleneck, inputs, 1, 1)),
        "conv2": ("branch2b", (stage.bottleneck, stage.bottleneck, 3, 3)),
        "conv3": ("branch2c", (stage.channels, stage.bottleneck, 1, 1)),
    }
    if projection:
        shapes["shortcut"] = ("branch1", (stage.channels, inputs, 1, 1))
    state: State = {}
    for module, (branch, shape) in shapes.items():
        layers.blob(f"res{name}_{branch}", 0)
        part = _normalised(layers, f"res{name}_{branch}", f"{name}_{branch}", shape)
        state.update({f"{module}.{key}": value for key, value in part.items()})
    return state


def _plain(layers: _Layers, layer: str, shape: tuple[int, ...]) -> State:
    return {"weight": layers.shaped(layer, 0, shape), "bias": layers.shaped(layer, 1, shape[:1])}


def _state(layers: _Layers, net: Architecture, names: list[list[str]]) -> State:
    state: State = {}

    def put(prefix: str, part: State) -> None:
        state.update({f"{prefix}.{key}": value for key, value in part.items()})

    put("backbone.stem.conv1", _normalised(layers, "conv1", "_conv1", (net.stem, 3, 7, 7)))
    inputs = net.stem
    for number, (stage, blocks) in enumerate(zip(net.stages, names, strict=True), start=2):
        for index, name in enumerate(blocks):
            put(f"{stage_prefix(number)}.{index}", _block(layers, name, inputs, stage, projection=index == 0))
            inputs = stage.channels
    trunk, width = net.stages[2].channels, net.stages[3].channels
    put(f"{RPN}.conv", _plain(layers, "rpn_conv/3x3", (net.rpn, trunk, 3, 3)))
    put(f"{RPN}.objectness_logits", _plain(layers, "rpn_cls_score", (2 * ANCHORS, net.rpn, 1, 1)))
    put(f"{RPN}.anchor_deltas", _plain(layers, "rpn_bbox_pred", (4 * ANCHORS, net.rpn, 1, 1)))
    put(f"{PREDICTOR}.cls_score", _plain(layers, "cls_score", (net.classes + 1, width)))
    if not net.has_attribute_head:
        return state
    embedding = layers.shaped("cls_embedding", 0, (net.classes + 1, net.embedding))
    put(f"{PREDICTOR}.cls_embedding", {"weight": embedding})
    put(f"{PREDICTOR}.fc_attr", _plain(layers, "fc_attr", (net.attribute_hidden, width + net.embedding)))
    put(f"{PREDICTOR}.attr_score", _plain(layers, "attr_score", (net.attributes + 1, net.attribute_hidden)))
    return state


def read_caffe_weights(path: str | Path, name: str | None = None) -> Weights:
    """Reads the original's weights; depth and widths come from the blobs.

    Args:
        path: local `.caffemodel`; layers the network does not need (data, loss, `bbox_pred`) are passed over.
        name: what the user calls the file, for errors; default the path.

    Returns:
        Architecture and weights; batch normalisation is kept apart, its stored factor taken out.

    Raises:
        WeightsError: no Caffe model, cut short, a layer missing or a blob of the wrong shape; names file and layer.
        OSError: the file cannot be read.
    """
    where = name or str(path)
    layers = _Layers(where, read_caffemodel(path, where))
    names = _block_names(layers)
    architecture = _architecture(layers, names)
    return Weights(architecture, _state(layers, architecture, names))
