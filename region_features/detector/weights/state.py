"""The form in which every reader returns weights, with the names and shapes of all arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.detector.architecture import ANCHORS, RESNET_101, Architecture, Stage

Arrays = Mapping[str, NDArray[Any]]  # as a file names them
State = dict[str, NDArray[np.float32]]
Shape = tuple[int, ...]
STEM = "backbone.stem.conv1"
RPN = "proposal_generator.rpn_head"
PREDICTOR = "roi_heads.box_predictor"
ATTRIBUTE_HEAD = tuple(f"{PREDICTOR}.{layer}" for layer in ("cls_embedding", "fc_attr", "attr_score"))


@dataclass(frozen=True)
class Weights:
    """A network's architecture and its weights under the names of the detectron2 modules.

    Background and "none" come first, the proposal network's rows are in Caffe's anchor order, batch normalisation is
    not folded.

    Attributes:
        architecture: depth and widths.
        state: name -> float32 array, possibly read-only.
        format: of the file: `caffemodel`, `detectron2-pickle`, `bua-pth`, `huggingface-bin` or `safetensors`.
        metadata: of a `.safetensors` file, about its source.
    """

    architecture: Architecture
    state: State
    format: str = "caffemodel"
    metadata: Mapping[str, str] = field(default_factory=dict)


def stage_prefix(number: int) -> str:
    """Return the module of a stage's blocks: res2 to res4 are in the trunk, res5 in the head."""
    return f"{'roi_heads' if number == 5 else 'backbone'}.res{number}"


def read_architecture(
    size: Callable[[str, int, int], int], blocks: Sequence[int], has_attribute_head: bool
) -> Architecture:
    """Read depth and widths off a file's weights.

    Args:
        size: returns a dimension of a module's weight, given the module, the axis and the number of dimensions.
        blocks: number of blocks of res2 to res5.
        has_attribute_head: whether the file has one; without it attributes are zeros, as many as the original's.
    """

    def stage(number: int) -> Stage:
        block = f"{stage_prefix(number)}.0"
        return Stage(blocks[number - 2], size(f"{block}.conv1", 0, 4), size(f"{block}.conv3", 0, 4))

    embedding, hidden, score = ATTRIBUTE_HEAD
    return Architecture(
        stem=size(STEM, 0, 4),
        stages=(stage(2), stage(3), stage(4), stage(5)),
        rpn=size(f"{RPN}.conv", 0, 4),
        classes=size(f"{PREDICTOR}.cls_score", 0, 2) - 1,
        attributes=size(score, 0, 2) - 1 if has_attribute_head else RESNET_101.attributes,
        embedding=size(embedding, 1, 2) if has_attribute_head else 0,
        attribute_hidden=size(hidden, 0, 2) if has_attribute_head else 0,
    )


def state_shapes(net: Architecture) -> dict[str, Shape]:
    """Return name -> shape of every array of a network's state."""
    shapes: dict[str, Shape] = {}

    def normalised(module: str, shape: Shape) -> None:
        shapes[f"{module}.weight"] = shape
        for key in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{module}.norm.{key}"] = shape[:1]

    def plain(module: str, shape: Shape) -> None:
        shapes.update({f"{module}.weight": shape, f"{module}.bias": shape[:1]})

    normalised(STEM, (net.stem, 3, 7, 7))
    inputs = net.stem
    for number, stage in enumerate(net.stages, start=2):
        for index in range(stage.blocks):
            block = f"{stage_prefix(number)}.{index}"
            normalised(f"{block}.conv1", (stage.bottleneck, inputs, 1, 1))
            normalised(f"{block}.conv2", (stage.bottleneck, stage.bottleneck, 3, 3))
            normalised(f"{block}.conv3", (stage.channels, stage.bottleneck, 1, 1))
            if index == 0:
                normalised(f"{block}.shortcut", (stage.channels, inputs, 1, 1))
            inputs = stage.channels
    width = net.stages[3].channels
    plain(f"{RPN}.conv", (net.rpn, net.stages[2].channels, 3, 3))
    plain(f"{RPN}.objectness_logits", (2 * ANCHORS, net.rpn, 1, 1))
    plain(f"{RPN}.anchor_deltas", (4 * ANCHORS, net.rpn, 1, 1))
    plain(f"{PREDICTOR}.cls_score", (net.classes + 1, width))
    if net.has_attribute_head:
        shapes[f"{PREDICTOR}.cls_embedding.weight"] = (net.classes + 1, net.embedding)
        plain(f"{PREDICTOR}.fc_attr", (net.attribute_hidden, width + net.embedding))
        plain(f"{PREDICTOR}.attr_score", (net.attributes + 1, net.attribute_hidden))
    return shapes
