"""The proposal network: from the trunk's features to at most 300 boxes.

h, w: cells of the feature map; A: 12 anchors; N: h * w * A; R: proposals.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from transforms.detector.anchors import decode, grid_anchors, large_enough
from transforms.detector.architecture import ANCHORS
from transforms.detector.nms import suppress


class ProposalHead(nn.Module):
    """`rpn_conv/3x3`, `rpn_cls_score` (background rows first) and `rpn_bbox_pred`."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(in_channels, channels, kernel_size=3, padding=1)
        self.objectness_logits = Conv2d(channels, 2 * ANCHORS, kernel_size=1)
        self.anchor_deltas = Conv2d(channels, 4 * ANCHORS, kernel_size=1)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """(1, C, h, w) to logits (1, 2A, h, w) and box deltas (1, 4A, h, w)."""
        hidden = F.relu_(self.conv(feature))
        return self.objectness_logits(hidden), self.anchor_deltas(hidden)


def foreground(logits: Tensor) -> Tensor:
    """Foreground probabilities in the order (h, w, anchor), from logits (1, 2A, h, w): (N,)."""
    height, width = logits.shape[-2:]
    pairs = logits.reshape(2, ANCHORS, height, width)
    return torch.softmax(pairs, dim=0)[1].permute(1, 2, 0).reshape(-1)


def choose(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    minimum_size: float,
    before: int,
    after: int,
    threshold: float,
) -> NDArray[np.float32]:
    """Drops small boxes, takes the `before` best, suppresses, takes the `after` best (`proposal_layer.py`).

    Args:
        boxes: float32 (N, 4), decoded and clipped.
        scores: float32 (N,).
        minimum_size: shortest side in pixels of the resized image.
        before, after: counts.
        threshold: overlap.

    Returns:
        float32 (R, 4), best first; R may be 0.
    """
    large = large_enough(boxes, minimum_size)
    boxes, scores = boxes[large], scores[large]
    # As the original: ascending, turned round.
    order = np.argsort(scores, kind="stable")[::-1][:before]
    boxes = boxes[order]
    return boxes[suppress(boxes, threshold, after)]


@PROPOSAL_GENERATOR_REGISTRY.register()
class BottomUpAttentionRPN(nn.Module):
    """The region proposal network on `res4`, with the original's arithmetic.

    Source: https://arxiv.org/abs/1506.01497 and the original's `proposal_layer.py`.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        channels: int,
        pre_nms: int = 6000,
        post_nms: int = 300,
        nms_threshold: float = 0.7,
        minimum_size: float = 16,
    ) -> None:
        """Builds the head.

        Args:
            in_channels: width of the trunk's output.
            channels: width of the 3x3 convolution.
            pre_nms, post_nms: how many boxes go into and come out of the suppression.
            nms_threshold: overlap from which a better box removes one.
            minimum_size: shortest side of a proposal, in pixels of the original image.
        """
        super().__init__()
        self.rpn_head = ProposalHead(in_channels, channels)
        self.pre_nms, self.post_nms = pre_nms, post_nms
        self.nms_threshold, self.minimum_size = nms_threshold, minimum_size

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """The keyword arguments that a config stands for."""
        node = cfg.MODEL.BOTTOM_UP_ATTENTION
        return {
            "in_channels": input_shape["res4"].channels,
            "channels": node.RPN_CHANNELS,
            "pre_nms": node.PRE_NMS_PROPOSALS,
            "post_nms": node.PROPOSALS,
            "nms_threshold": node.PROPOSAL_NMS,
            "minimum_size": node.MIN_PROPOSAL_SIZE,
        }

    def forward(self, feature: Tensor, image_size: tuple[int, int], scale: float) -> NDArray[np.float32]:
        """Proposes regions of one image.

        Args:
            feature: (1, C, h, w), the trunk's output.
            image_size: height and width of the resized image.
            scale: resized size over original size.

        Returns:
            float32 (R, 4), x1, y1, x2, y2 in pixels of the resized image, best first; R may be 0.
        """
        logits, deltas = self.rpn_head(feature)
        height, width = deltas.shape[-2:]
        scores = foreground(logits).cpu().numpy()
        flat = deltas.permute(0, 2, 3, 1).reshape(-1, 4).cpu().numpy()
        boxes = decode(grid_anchors(height, width), flat, *image_size)
        minimum = self.minimum_size * np.float32(scale)
        return choose(boxes, scores, float(minimum), self.pre_nms, self.post_nms, self.nms_threshold)
