"""The proposal network: from the trunk's features to at most 300 boxes.

h, w: cells of the feature map; A: 12 anchors; N: h * w * A; B: images; C: channels; M: candidates of an image;
R: proposals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from region_features.detector.architecture import ANCHORS
from region_features.detector.network.anchors import decode, grid_anchors, large_enough
from region_features.detector.network.nms import compact, suppress


class ProposalHead(nn.Module):
    """Layers `rpn_conv/3x3`, `rpn_cls_score` (background rows first) and `rpn_bbox_pred`."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(in_channels, channels, kernel_size=3, padding=1)
        self.objectness_logits = Conv2d(channels, 2 * ANCHORS, kernel_size=1)
        self.anchor_deltas = Conv2d(channels, 4 * ANCHORS, kernel_size=1)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, 2A, h, w) and box deltas (B, 4A, h, w) of the trunk's output (B, C, h, w)."""
        hidden = F.relu_(self.conv(feature))
        return self.objectness_logits(hidden), self.anchor_deltas(hidden)


def foreground(logits: Tensor) -> Tensor:
    """Return foreground probabilities (B, N) in the order (h, w, anchor), from logits (B, 2A, h, w)."""
    count, _, height, width = logits.shape
    pairs = logits.reshape(count, 2, ANCHORS, height, width)
    return torch.softmax(pairs, dim=1)[:, 1].permute(0, 2, 3, 1).reshape(count, -1)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Boxes that go into the suppression.

    Attributes:
        boxes: float32 (B, M, 4), pixels of the resized image, best first.
        valid: bool (B, M); False for boxes that are too small, and for padding.
    """

    boxes: Tensor
    valid: Tensor


def best_first(boxes: Tensor, scores: Tensor, minimum_sizes: Tensor, count: int) -> Candidates:
    """Take the best boxes that are large enough (`proposal_layer.py`).

    Args:
        boxes: float32 (B, N, 4), decoded and clipped.
        scores: float32 (B, N), probabilities.
        minimum_sizes: float32 (B,), shortest side in pixels of the resized image.
        count: largest number of candidates of an image.
    """
    large = large_enough(boxes, minimum_sizes)
    # As in the original, sorted ascending and reversed: of equal scores the later box comes first.
    order = torch.where(large, scores, -1).sort(dim=1, stable=True).indices.flip(1)[:, :count]
    return Candidates(boxes.gather(1, order[:, :, None].expand(-1, -1, 4)), large.gather(1, order))


def _padded(candidates: Candidates, width: int) -> Candidates:
    missing = width - candidates.boxes.shape[1]
    return Candidates(F.pad(candidates.boxes, (0, 0, 0, missing)), F.pad(candidates.valid, (0, missing)))


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
        """Build the head.

        Args:
            in_channels: width of the trunk's output.
            channels: width of the 3x3 convolution.
            pre_nms, post_nms: largest numbers of boxes before and after the suppression.
            nms_threshold: IoU with a better box from which a box is removed.
            minimum_size: shortest side of a proposal, in pixels of the original image.
        """
        super().__init__()
        self.rpn_head = ProposalHead(in_channels, channels)
        self.pre_nms, self.post_nms = pre_nms, post_nms
        self.nms_threshold, self.minimum_size = nms_threshold, minimum_size

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Return the constructor's arguments for a config."""
        node = cfg.MODEL.BOTTOM_UP_ATTENTION
        return {
            "in_channels": input_shape["res4"].channels,
            "channels": node.RPN_CHANNELS,
            "pre_nms": node.PRE_NMS_PROPOSALS,
            "post_nms": node.PROPOSALS,
            "nms_threshold": node.PROPOSAL_NMS,
            "minimum_size": node.MIN_PROPOSAL_SIZE,
        }

    def candidates(self, feature: Tensor, image_size: tuple[int, int], scales: Tensor) -> Candidates:
        """Propose boxes for images of one size, before suppression.

        Args:
            feature: (B, C, h, w), the trunk's output.
            image_size: height and width of the resized images.
            scales: float32 (B,), resized size over original size.
        """
        logits, deltas = self.rpn_head(feature)
        height, width = deltas.shape[-2:]
        flat = deltas.permute(0, 2, 3, 1).reshape(len(feature), -1, 4)
        boxes = decode(grid_anchors(height, width, feature.device), flat, *image_size)
        return best_first(boxes, foreground(logits), self.minimum_size * scales, self.pre_nms)

    def proposals(self, groups: Sequence[Candidates]) -> list[Tensor]:
        """Suppress overlapping candidates and take the best.

        Args:
            groups: candidates of any number of images, suppressed side by side.

        Returns:
            For each image, in the order of the groups, float32 (R, 4), x1, y1, x2, y2 in pixels of the resized image,
            best first; R may be 0.
        """
        width = max(group.boxes.shape[1] for group in groups)
        padded = [_padded(group, width) for group in groups]
        boxes, valid = torch.cat([group.boxes for group in padded]), torch.cat([group.valid for group in padded])
        kept = suppress(boxes, valid, self.nms_threshold, self.post_nms)
        counts = kept.sum(dim=1).tolist()
        best, _ = compact(boxes, kept, max(counts))
        return [row[:count] for row, count in zip(best, counts, strict=True)]

    def forward(self, feature: Tensor, image_size: tuple[int, int], scale: float) -> Tensor:
        """Propose regions (R, 4) of one image, see `candidates` and `proposals`; `feature` is (1, C, h, w)."""
        (regions,) = self.proposals([self.candidates(feature, image_size, feature.new_tensor([scale]))])
        return regions
