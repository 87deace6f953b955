"""Named arrays of the ports to detectron2 and torch as this network's depth, widths and weights.

The rows of `objectness_logits` tell two layouts apart. Twelve: converted to detectron2's conventions, anchors
size-major, background and "none" last. Twenty-four: Caffe's conventions, as in this network.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.detector.architecture import ANCHORS
from region_features.detector.errors import WeightsError
from region_features.detector.weights.messages import missing_layer
from region_features.detector.weights.state import (
    ATTRIBUTE_HEAD,
    PREDICTOR,
    RPN,
    Arrays,
    Shape,
    State,
    Weights,
    read_architecture,
    stage_prefix,
    state_shapes,
)

# Entry i: Caffe's index of anchor i of the size-major files.
_CAFFE_ANCHOR = (0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11)
_TO_CAFFE = np.argsort(_CAFFE_ANCHOR)
_SYNONYMS = {
    "gamma": "weight",
    "beta": "bias",
    "cls_embed": "cls_embedding",
    "attr_linear1": "fc_attr",
    "attr_linear2": "attr_score",
}
_OBJECTNESS = f"{RPN}.objectness_logits"


class _NamedFile:
    """A file's arrays, with errors that name the file and the layer."""

    def __init__(self, arrays: Arrays, where: str) -> None:
        self.where = where
        self.arrays = {
            ".".join(_SYNONYMS.get(part, part) for part in name.split(".")): array for name, array in arrays.items()
        }

    def block_count(self, number: int) -> int:
        """Return the number of blocks of a stage."""
        pattern = re.compile(rf"{re.escape(stage_prefix(number))}\.([0-9]{{1,4}})\.")
        return max((int(match[1]) for match in map(pattern.match, self.arrays) if match), default=0) + 1

    def size(self, module: str, axis: int, dims: int) -> int:
        """Return one dimension of a module's weight, which has `dims` dimensions."""
        name = f"{module}.weight"
        shape = self._get(name).shape
        if len(shape) != dims or 0 in shape:
            raise WeightsError(f"{self.where}, layer {name}: expected weights of {dims} dimensions, got {shape}")
        return shape[axis]

    def array(self, name: str, shape: Shape) -> NDArray[np.float32]:
        """Return an array as float32."""
        array = self._get(name)
        if array.shape != shape or array.dtype.kind != "f":
            raise WeightsError(
                f"{self.where}, layer {name}: expected floats of shape {shape}, got {array.dtype} of {array.shape}"
            )
        return np.ascontiguousarray(array, np.float32)

    def _get(self, name: str) -> NDArray[Any]:
        if name not in self.arrays:
            raise missing_layer(self.where, name, self.arrays)
        return self.arrays[name]


def _is_converted(file: _NamedFile, classes: int) -> bool:
    """Return whether a file follows detectron2's conventions, by the rows of its objectness layer."""
    rows = file.size(_OBJECTNESS, 0, 4)
    if rows not in (ANCHORS, 2 * ANCHORS):
        raise WeightsError(
            f"{file.where}, layer {_OBJECTNESS}.weight: expected {ANCHORS} or {2 * ANCHORS} rows, got {rows}"
        )
    converted = rows == ANCHORS
    box_deltas = file.arrays.get(f"{PREDICTOR}.bbox_pred.weight")
    contradicting = 4 * (classes + 1) if converted else 4 * classes
    if box_deltas is not None and box_deltas.shape[:1] == (contradicting,):
        raise WeightsError(
            f"{file.where}: {rows} objectness rows and {contradicting} bbox_pred rows contradict each other: whether "
            "background is the first class or the last cannot be told"
        )
    return converted


def _from_converted(state: State) -> None:
    """Put background and "none" first and the anchors in Caffe's order, in place."""
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
    """Build the network's weights from named arrays; depth and widths come from their shapes.

    Args:
        arrays: module name -> array; those that the network does not need (`bbox_pred`, anchors) are ignored.
        where: the file's name, for errors.

    Returns:
        The weights, and whether the file follows detectron2's conventions and not Caffe's.

    Raises:
        WeightsError: an array is missing or of the wrong shape; names file and layer.
    """
    file = _NamedFile(arrays, where)
    has_attribute_head = any(f"{module}.weight" in file.arrays for module in ATTRIBUTE_HEAD)
    architecture = read_architecture(
        file.size, [file.block_count(number) for number in range(2, 6)], has_attribute_head
    )
    converted = _is_converted(file, architecture.classes)
    shapes = state_shapes(architecture)
    if converted:
        for key in ("weight", "bias"):
            name = f"{_OBJECTNESS}.{key}"
            shapes[name] = (ANCHORS, *shapes[name][1:])
    state = {name: file.array(name, shape) for name, shape in shapes.items()}
    if converted:
        _from_converted(state)
    return Weights(architecture, state), converted
