"""A network's weights as every reader gives them, and what each of them must be called and shaped like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from region_features.detector.architecture import ANCHORS, Architecture

State = dict[str, NDArray[np.float32]]
Shape = tuple[int, ...]
RPN = "proposal_generator.rpn_head"
PREDICTOR = "roi_heads.box_predictor"


@dataclass(frozen=True)
class Weights:
    """A network's architecture and its weights under the names of the detectron2 modules.

    Background and "none" come first, the proposal network's rows are in Caffe's anchor order, batch normalisation is
    kept apart.

    Attributes:
        architecture: depth and widths.
        state: name -> float32 array, possibly read-only.
        format: what the file was: `caffemodel`, `detectron2-pickle`, `bua-pth`, `huggingface-bin` or `safetensors`.
        metadata: what a `.safetensors` file says of its source.
    """

    architecture: Architecture
    state: State
    format: str = "caffemodel"
    metadata: Mapping[str, str] = field(default_factory=dict)


def stage_prefix(number: int) -> str:
    """Where the blocks of res2 to res4 (the trunk) and of res5 (the head) are."""
    return f"{'roi_heads' if number == 5 else 'backbone'}.res{number}"


def state_shapes(net: Architecture) -> dict[str, Shape]:
    """Name -> shape of every array of a network's state."""
    shapes: dict[str, Shape] = {}

    def normalised(prefix: str, shape: Shape) -> None:
        shapes[f"{prefix}.weight"] = shape
        for key in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{prefix}.norm.{key}"] = shape[:1]

    def plain(prefix: str, shape: Shape) -> None:
        shapes.update({f"{prefix}.weight": shape, f"{prefix}.bias": shape[:1]})

    normalised("backbone.stem.conv1", (net.stem, 3, 7, 7))
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
