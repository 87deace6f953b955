"""The whole network as a detectron2 meta architecture.

R: regions; K: kept ones; D: feature width; C: classes with background; A: attributes with "none".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone, build_proposal_generator, build_roi_heads
from detectron2.structures import Boxes, Instances
from numpy.typing import NDArray
from torch import Tensor, nn

from transforms.detector.backbone import SHORTEST_SIDE
from transforms.detector.errors import DetectionError
from transforms.detector.given_regions import to_resized
from transforms.detector.proposals import BottomUpAttentionRPN
from transforms.detector.roi_heads import BottomUpAttentionHeads
from transforms.detector.selection import max_confidence, select
from transforms.records.prepared_image import BoxSettings


@META_ARCH_REGISTRY.register()
class BottomUpAttentionRCNN(nn.Module):
    """Faster R-CNN with an attribute head, as bottom-up attention extracts regions with it.

    Source: https://arxiv.org/abs/1707.07998 and the original's `generate_tsv.py`.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: BottomUpAttentionRPN,
        roi_heads: BottomUpAttentionHeads,
        boxes: BoxSettings,
        class_nms: float = 0.3,
    ) -> None:
        """Joins the parts.

        Args:
            backbone: gives `res4`.
            proposal_generator: gives regions.
            roi_heads: gives features and predictions.
            boxes: how many regions an image keeps.
            class_nms: overlap from which a better region of the same class removes one.
        """
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.boxes = boxes
        self.class_nms = class_nms

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The keyword arguments that a config stands for."""
        backbone = build_backbone(cfg, ShapeSpec(channels=3))
        node = cfg.MODEL.BOTTOM_UP_ATTENTION
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
            "roi_heads": build_roi_heads(cfg, backbone.output_shape()),
            "boxes": BoxSettings(node.MIN_BOXES, node.MAX_BOXES, node.CONF_THRESHOLD),
            "class_nms": node.CLASS_NMS,
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Finds the regions of prepared images; extraction only, no training.

        One image at a time, which makes an image's numbers independent of its neighbours; see docs/performance.md
        for what batching would bring.

        Args:
            batched_inputs: for each image `image`, float32 (3, h, w), mean subtracted and resized; `scale`, resized
                size over original size; `height` and `width` of the original; `boxes`, see `regions`, may be absent.

        Returns:
            For each image either `instances`, see `regions`, or `error`, a DetectionError.
        """
        outputs: list[dict[str, Any]] = []
        for one in batched_inputs:
            try:
                instances = self.regions(one["image"], one["scale"], (one["height"], one["width"]), one.get("boxes"))
                outputs.append({"instances": instances})
            except DetectionError as error:
                outputs.append({"error": error})
        return outputs

    def regions(
        self,
        image: Tensor,
        scale: float,
        original_size: tuple[int, int],
        given: NDArray[np.float32] | None = None,
    ) -> Instances:
        """The kept regions of one image.

        Args:
            image: float32 (3, h, w), as the network takes it.
            scale: resized size over original size.
            original_size: height and width before resizing.
            given: float32 (B, 4), pixels of the original image: the regions, all kept as they are, in place of
                proposals; None for proposals.

        Returns:
            Instances of the original size with pred_boxes (K, 4), pred_classes int64 (K,), scores (K,), features
            (K, D), class_probs (K, C) and attribute_probs (K, A).

        Raises:
            DetectionError: the image is too thin, or too small for any proposal, or the numbers are not finite.
        """
        size = (image.shape[-2], image.shape[-1])
        if min(size) < SHORTEST_SIDE:
            raise DetectionError(
                f"image of {original_size[1]}x{original_size[0]} pixels is too thin: resized to {size[1]}x{size[0]} it "
                "leaves a pooling layer without an output"
            )
        feature = self.backbone(image[None].contiguous(memory_format=torch.channels_last))["res4"]
        if given is None:
            proposals = self.proposal_generator(feature, size, scale)
            boxes = proposals / np.float32(scale)
        else:
            proposals, boxes = to_resized(given, scale), given
        if len(proposals) == 0:
            raise DetectionError(
                f"image of {original_size[1]}x{original_size[0]} pixels is too small: no proposal has both sides of "
                f"at least {self.proposal_generator.minimum_size:g} pixels"
            )
        features = self.roi_heads(feature, torch.from_numpy(proposals).to(feature.device))
        predictor = self.roi_heads.box_predictor
        class_probs = predictor.class_probabilities(features)
        host_probs = class_probs.cpu().numpy()
        if not np.isfinite(host_probs).all():
            raise DetectionError("the network gave numbers that are not finite; are the weights sound?")
        if given is None:
            kept = torch.from_numpy(select(max_confidence(boxes, host_probs[:, 1:], self.class_nms), self.boxes).copy())
        else:
            kept = torch.arange(len(boxes))
        on_device = kept.to(feature.device)
        features, class_probs = features[on_device], class_probs[on_device]
        scores, classes = class_probs[:, 1:].max(dim=1)
        return Instances(
            original_size,
            pred_boxes=Boxes(torch.from_numpy(boxes)[kept]),
            pred_classes=classes,
            scores=scores,
            features=features,
            class_probs=class_probs,
            attribute_probs=predictor.attribute_probabilities(features, class_probs.argmax(dim=1)),
        )
