"""A straight port of the network to torch, for the benchmarks to compare with.

One image at a time, batch normalisation not folded, torchvision's roi_pool, all 300 regions through res5 at once and
their attributes predicted; proposals and the suppression class by class in plain numpy, as in py-faster-rcnn and its
ports. It shares with the detector only the modules that hold the weights.

h, w: cells of the feature map; N: anchors; R: proposals; D: feature width; C: classes with background; K: kept.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import roi_pool

from region_features.detector.network.detector import build_network
from region_features.detector.network.meta_arch import BottomUpAttentionRCNN
from region_features.detector.weights.weights_file import read_weights
from region_features.records.prepared_image import PreparedImage
from region_features.records.settings import SelectionRule

PARTS = ("trunk", "RPN and proposals", "RoI pool", "res5", "scores", "class NMS", "attributes")
_STRIDE, _ANCHORS, _POOLED = 16, 12, 14
_BEFORE, _AFTER, _PROPOSAL_NMS, _CLASS_NMS = 6000, 300, 0.7, 0.3
_MINIMUM_SIZE = 16  # pixels of the original image
_THRESHOLD, _KEPT = 0.2, 36
Boxes = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PortRecord:
    """The port's result for an image: float32 boxes (K, 4), features (K, D), cls_prob (K, C), attrs (K, A)."""

    boxes: NDArray[np.float32]
    features: NDArray[np.float32]
    cls_prob: NDArray[np.float32]
    attrs: NDArray[np.float32]


def load(weights: str, device: str) -> BottomUpAttentionRCNN:
    """Load the network of a weights file, nothing folded or fused."""
    return build_network(read_weights(weights), SelectionRule()).to(device)


def anchors(height: int, width: int) -> Boxes:
    """Return the anchors (N, 4) of a feature map in the order (h, w, ratio, scale)."""
    cell = []
    for ratio in (0.5, 1, 2):
        base = np.round(np.sqrt(_STRIDE * _STRIDE / ratio))
        for scale in (4, 8, 16, 32):
            half_w, half_h = (base * scale - 1) / 2, (np.round(base * ratio) * scale - 1) / 2
            cell.append((7.5 - half_w, 7.5 - half_h, 7.5 + half_w, 7.5 + half_h))
    x, y = np.meshgrid(np.arange(width) * _STRIDE, np.arange(height) * _STRIDE)
    shifts = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    return (shifts + np.array(cell)).reshape(-1, 4).astype(np.float32)


def moved(boxes: Boxes, deltas: NDArray[np.float32], height: int, width: int) -> Boxes:
    """Move boxes (N, 4) by the network's deltas and clip them to the image."""
    widths, heights = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    x = deltas[:, 0] * widths + (boxes[:, 0] + np.float32(0.5) * widths)
    y = deltas[:, 1] * heights + (boxes[:, 1] + np.float32(0.5) * heights)
    half_w = np.float32(0.5) * (np.exp(deltas[:, 2]) * widths)
    half_h = np.float32(0.5) * (np.exp(deltas[:, 3]) * heights)
    out = np.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=1)
    out[:, 0::2] = out[:, 0::2].clip(0, width - 1)
    out[:, 1::2] = out[:, 1::2].clip(0, height - 1)
    return out


def nms(boxes: Boxes, scores: NDArray[np.float32], threshold: float) -> list[int]:
    """Suppress boxes greedily, their ends included; return the indices of the kept ones, best first."""
    x1, y1, x2, y2 = boxes.T
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    order = scores.argsort()[::-1]
    kept = []
    while order.size:
        first, rest = order[0], order[1:]
        kept.append(int(first))
        width = np.maximum(0, np.minimum(x2[first], x2[rest]) - np.maximum(x1[first], x1[rest]) + 1)
        height = np.maximum(0, np.minimum(y2[first], y2[rest]) - np.maximum(y1[first], y1[rest]) + 1)
        inter = width * height
        order = rest[inter / (areas[first] + areas[rest] - inter) < threshold]
    return kept


def propose(logits: Tensor, deltas: Tensor, photo: PreparedImage) -> Boxes:
    """Return boxes (R, 4) of the resized image from logits (1, 24, h, w) and deltas (1, 48, h, w)."""
    height, width = logits.shape[2:]
    pairs = torch.softmax(logits.view(2, _ANCHORS, height, width), dim=0)
    scores = pairs[1].permute(1, 2, 0).reshape(-1).cpu().numpy()
    rows = deltas.permute(0, 2, 3, 1).reshape(-1, 4).cpu().numpy()
    boxes = moved(anchors(height, width), rows, *photo.pixels.shape[:2])
    smallest = np.float32(_MINIMUM_SIZE * photo.scale)
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    large = np.flatnonzero((sides >= smallest).all(axis=1))
    best = large[scores[large].argsort()[::-1][:_BEFORE]]
    return boxes[best][nms(boxes[best], scores[best], _PROPOSAL_NMS)[:_AFTER]]


def keep(boxes: Boxes, probs: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the 36 regions (K,) that an image keeps, by suppression class by class."""
    confidence = np.zeros(len(boxes))
    for column in probs.T[1:]:
        kept = nms(boxes, column, _CLASS_NMS)
        confidence[kept] = np.maximum(confidence[kept], column[kept])
    over = np.flatnonzero(confidence >= _THRESHOLD)
    return over if len(over) == _KEPT else confidence.argsort()[::-1][:_KEPT]


def untimed(_part: str) -> AbstractContextManager[None]:
    """Measure nothing."""
    return nullcontext()


@torch.inference_mode()
def detect(
    network: BottomUpAttentionRCNN,
    photo: PreparedImage,
    part: Callable[[str], AbstractContextManager[None]] = untimed,
) -> PortRecord:
    """Put one image through the port.

    Args:
        network: see `load`.
        photo: the image; it has to be large enough for a proposal.
        part: entered around each of PARTS, by name.
    """
    predictor = network.roi_heads.box_predictor
    with part("trunk"):
        device = network.backbone.stem.conv1.weight.device
        pixels = torch.from_numpy(photo.pixels).to(device).permute(2, 0, 1)[None].contiguous()
        feature = network.backbone(pixels)["res4"]
    with part("RPN and proposals"):
        logits, deltas = network.proposal_generator.rpn_head(feature)
        proposals = propose(logits, deltas, photo)
    with part("RoI pool"):
        regions = torch.from_numpy(proposals).to(device)
        rois = torch.cat([regions.new_zeros(len(regions), 1), regions], dim=1)
        pooled = roi_pool(feature, rois, _POOLED, 1 / _STRIDE)
    with part("res5"):
        features = network.roi_heads.res5(pooled).mean(dim=(2, 3))
    with part("scores"):
        probs = torch.softmax(predictor.cls_score(features), dim=1)
        host_probs = probs.cpu().numpy()
    with part("attributes"):
        joined = torch.cat([features, predictor.cls_embedding(probs.argmax(dim=1))], dim=1)
        attributes = torch.softmax(predictor.attr_score(torch.relu(predictor.fc_attr(joined))), dim=1).cpu().numpy()
    with part("class NMS"):
        boxes = proposals / np.float32(photo.scale)
        kept = keep(boxes, host_probs)
    return PortRecord(boxes[kept], features.cpu().numpy()[kept], host_probs[kept], attributes[kept])
