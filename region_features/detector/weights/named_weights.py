"""From named arrays, as ports to detectron2 and torch store them, to this network's depth, widths and weights.

Two layouts, told apart by the rows of `objectness_logits`. Twelve: converted to detectron2's conventions, anchors
size-major, background and "none" last. Twenty-four: Caffe's conventions, as in this network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.detector.architecture import ANCHORS, RESNET_101, Architecture, Stage
from region_features.detector.errors import WeightsError
from region_features.detector.weights.caffemodel import layer_names
from region_features.detector.weights.state import PREDICTOR, RPN, Shape, State, Weights, stage_prefix, state_shapes

Arrays = Mapping[str, NDArray[Any]]
# Anchor i of the size-major files is this one of Caffe's.
_CAFFE_ANCHOR = (0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11)
_TO_CAFFE = np.argsort(_CAFFE_ANCHOR)
_OTHER_NAMES = (
    (re.compile(r"\.gamma$"), ".weight"),
    (re.compile(r"\.beta$"), ".bias"),
    (re.compile(r"\.cls_embed\."), ".cls_embedding."),
    (re.compile(r"\.attr_linear1\."), ".fc_attr."),
    (re.compile(r"\.attr_linear2\."), ".attr_score."),
)
_ATTRIBUTE_LAYERS = tuple(f"{PREDICTOR}.{layer}.weight" for layer in ("cls_embedding", "fc_attr", "attr_score"))
_OBJECTNESS = f"{RPN}.objectness_logits"


def _canonical(name: str) -> str:
    for pattern, replacement in _OTHER_NAMES:
        name = pattern.sub(replacement, name)
    return name


class _Named:
    """The file's arrays, with errors that name the file and the layer."""

    def __init__(self, arrays: Arrays, where: str) -> None:
        self.where = where
        self.arrays = {_canonical(name): array for name, array in arrays.items()}

    def get(self, name: str) -> NDArray[Any]:
        found = self.arrays.get(name)
        if found is None:
            raise WeightsError(
                f"{self.where}: layer {name} is missing; expected the bottom-up-attention network, got a file with "
                f"{layer_names(self.arrays)}"
            )
        return found

    def size(self, name: str, axis: int, dims: int) -> int:
        shape = self.get(name).shape
        if len(shape) != dims or 0 in shape:
            raise WeightsError(f"{self.where}, layer {name}: expected weights of {dims} dimensions, got {shape}")
        return shape[axis]

    def shaped(self, name: str, shape: Shape) -> NDArray[np.float32]:
        array = self.get(name)
        if array.shape != shape or array.dtype.kind != "f":
            raise WeightsError(
                f"{self.where}, layer {name}: expected floats of shape {shape}, got {array.dtype} of {array.shape}"
            )
        return np.ascontiguousarray(array, np.float32)


def _stage(named: _Named, number: int) -> Stage:
    prefix = stage_prefix(number)
    pattern = re.compile(rf"{re.escape(prefix)}\.(\d{{1,4}})\.")
    found = {int(match.group(1)) for match in map(pattern.match, named.arrays) if match}
    return Stage(
        blocks=max(found, default=0) + 1,
        bottleneck=named.size(f"{prefix}.0.conv1.weight", 0, 4),
        channels=named.size(f"{prefix}.0.conv3.weight", 0, 4),
    )


def _architecture(named: _Named) -> Architecture:
    has_attributes = any(name in named.arrays for name in _ATTRIBUTE_LAYERS)
    embedding, hidden, score = _ATTRIBUTE_LAYERS
    return Architecture(
        stem=named.size("backbone.stem.conv1.weight", 0, 4),
        stages=(_stage(named, 2), _stage(named, 3), _stage(named, 4), _stage(named, 5)),
        rpn=named.size(f"{RPN}.conv.weight", 0, 4),
        classes=named.size(f"{PREDICTOR}.cls_score.weight", 0, 2) - 1,
        attributes=named.size(score, 0, 2) - 1 if has_attributes else RESNET_101.attributes,
        embedding=named.size(embedding, 1, 2) if has_attributes else 0,
        attribute_hidden=named.size(hidden, 0, 2) if has_attributes else 0,
    )


def _is_converted(named: _Named, classes: int) -> bool:
    """Whether the file follows detectron2's conventions, by the rows of its objectness layer."""
    rows = named.size(f"{_OBJECTNESS}.weight", 0, 4)
    if rows not in (ANCHORS, 2 * ANCHORS):
        raise WeightsError(
            f"{named.where}, layer {_OBJECTNESS}.weight: expected {ANCHORS} or {2 * ANCHORS} rows, got {rows}"
        )
    converted = rows == ANCHORS
    boxes = named.arrays.get(f"{PREDICTOR}.bbox_pred.weight")
    other = 4 * (classes + 1) if converted else 4 * classes
    if boxes is not None and boxes.shape[:1] == (other,):
        raise WeightsError(
            f"{named.where}: {rows} objectness rows and {other} bbox_pred rows contradict each other: whether "
            "background is the first class or the last cannot be told"
        )
    return converted


def _from_converted(state: State) -> None:
    """Puts background and "none" first and the anchors in Caffe's order, in place."""
    for layer in ("cls_score", "cls_embedding", "attr_score"):
        for key in ("weight", "bias"):
            name = f"{PREDICTOR}.{layer}.{key}"
            if name in state:
                state[name] = np.roll(state[name], 1, axis=0)
    for key in ("weight", "bias"):
        deltas = f"{RPN}.anchor_deltas.{key}"
        by_anchor = state[deltas].reshape(ANCHORS, 4, *state[deltas].shape[1:])
        state[deltas] = by_anchor[_TO_CAFFE].reshape(state[deltas].shape)
        # The sigmoid of one logit is the softmax of it and a background logit of zero.
        foreground = state[f"{_OBJECTNESS}.{key}"][_TO_CAFFE]
        state[f"{_OBJECTNESS}.{key}"] = np.concatenate([np.zeros_like(foreground), foreground])


def named_weights(arrays: Arrays, where: str) -> tuple[Weights, bool]:
    """Builds the network's weights from named arrays; depth and widths come from their shapes.

    Args:
        arrays: module name -> array; what the network does not need (`bbox_pred`, anchors) is passed over.
        where: the file's name, for errors.

    Returns:
        The weights, and whether the file follows detectron2's conventions and not Caffe's.

    Raises:
        WeightsError: an array is missing or of the wrong shape; names file and layer.
    """
    named = _Named(arrays, where)
    architecture = _architecture(named)
    converted = _is_converted(named, architecture.classes)
    shapes = state_shapes(architecture)
    if converted:
        for key in ("weight", "bias"):
            name = f"{_OBJECTNESS}.{key}"
            shapes[name] = (ANCHORS, *shapes[name][1:])
    state = {name: named.shaped(name, shape) for name, shape in shapes.items()}
    if converted:
        _from_converted(state)
    return Weights(architecture, state), converted
