"""Records of one network with one thing done to it or to its pictures.

Pictures are long and low, so that their resized form, which decides the time, is small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from region_features.detector import Detector
from region_features.detector.network import anchors
from region_features.detector.network.detector import build_network
from region_features.detector.preprocess import PIXEL_MEANS, prepare
from region_features.detector.weights.caffemodel import read_caffemodel
from region_features.detector.weights.weights_file import read_weights
from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import RegionRecord
from region_features.records.settings import SelectionRule
from tests.conftest import TINY_WEIGHTS
from tests.samples.weight_files import CAFFE_ANCHOR

Pixels = NDArray[np.uint8]
Records = dict[str, RegionRecord]
Prepare = Callable[[str, Pixels], PreparedImage]
PROPOSALS = 100  # in place of 300, for speed


def pictures(coloured: int = 5, grey: int = 2) -> Mapping[str, Pixels]:
    """Make pictures of smooth shapes in two sizes; the grey ones have the first size."""
    made = {}
    for number in range(coloured + grey):
        rng = np.random.default_rng(number)
        height, width = ((110, 900), (900, 120))[number % 2 if number < coloured else 0]
        coarse = rng.integers(0, 256, (height // 30 + 2, width // 30 + 2, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        if number >= coloured:
            picture = np.repeat(picture[:, :, :1], 3, axis=2)
        made[f"photo_{number:03d}"] = np.ascontiguousarray(picture, np.uint8)
    return made


def detector(
    change: Callable[[dict[str, Any]], None] = lambda state: None, rule: SelectionRule | None = None
) -> Detector:
    """Load the narrow network; `change` changes its arrays by name in place."""
    weights = read_weights(str(TINY_WEIGHTS))
    state = {name: np.array(array) for name, array in weights.state.items()}
    change(state)
    network = build_network(replace(weights, state=state), rule or SelectionRule())
    network.proposal_generator.post_nms = PROPOSALS
    return Detector(network, torch.device("cpu"))


def records(network: Detector, images: Mapping[str, Pixels], prepare_one: Prepare = prepare) -> Records:
    """Run the network on pictures, prepared in a given way."""
    found = zip(images, network.detect([prepare_one(name, image) for name, image in images.items()]), strict=True)
    return {name: record for name, record in found if isinstance(record, RegionRecord)}


def prepare_with(means: tuple[float, ...] = PIXEL_MEANS, short: int = 600, long: int = 1000) -> Prepare:
    """Return a `prepare` with other means (B, G, R) or another size."""

    def prepare_otherwise(name: str, image: Pixels) -> PreparedImage:
        height, width = image.shape[:2]
        scale = min(short / min(height, width), long / max(height, width))
        pixels = cv2.resize((image - np.array(means)).astype(np.float32), None, None, fx=scale, fy=scale)
        return PreparedImage(name, height, width, scale, np.ascontiguousarray(pixels, np.float32))

    return prepare_otherwise


def swapped(name: str, image: Pixels) -> PreparedImage:
    """Prepare a picture as a program does that reads RGB and takes it for BGR."""
    return prepare(name, np.ascontiguousarray(image[:, :, ::-1]))


def to_bfloat16(state: dict[str, Any]) -> None:
    """Round the weights of the head."""
    for name, array in state.items():
        if "res5" in name:
            state[name] = torch.from_numpy(array).bfloat16().float().numpy()


def shuffle(state: dict[str, Any]) -> None:
    """Make another network: every filter's numbers, in another order."""
    rng = np.random.default_rng(0)
    for name, array in state.items():
        if array.ndim == 4 and "rpn" not in name:
            state[name] = rng.permutation(array.reshape(-1)).reshape(array.shape)


@contextmanager
def size_major_anchors() -> Iterator[None]:
    """Give the anchors in detectron2's order, with weights that have Caffe's."""
    ours = anchors.cell_anchors()
    anchors.grid_anchors.cache_clear()
    with patch.object(anchors, "cell_anchors", lambda: ours[CAFFE_ANCHOR]):
        yield
    anchors.grid_anchors.cache_clear()


def regress(record: RegionRecord) -> RegionRecord:
    """Move each box as the network's layer bbox_pred says for its most probable class, and clip it to the image."""
    weight, bias = read_caffemodel(TINY_WEIGHTS)["bbox_pred"]
    rows = np.arange(record.num_boxes)
    deltas = (record.features @ weight.T + bias).reshape(record.num_boxes, -1, 4)[rows, record.objects_id + 1]
    moved = anchors.decode(
        torch.from_numpy(np.array(record.boxes)), torch.from_numpy(deltas)[None], record.img_h, record.img_w
    )
    return replace(record, boxes=moved[0].numpy())
