"""The whole network as a detectron2 meta architecture.

B: images; R: regions; K: kept regions; D: feature width; C: classes with background; A: attributes with "none".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone, build_proposal_generator, build_roi_heads
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from region_features.detector.errors import DetectionError
from region_features.detector.given_regions import to_resized
from region_features.detector.network.backbone import SHORTEST_SIDE
from region_features.detector.network.proposals import BottomUpAttentionRPN, Candidates
from region_features.detector.network.roi_heads import BottomUpAttentionHeads
from region_features.detector.network.selection import choose_regions
from region_features.detector.oom_backoff import run_with_oom_backoff
from region_features.records.settings import SelectionRule


@dataclass(eq=False)
class _Image:
    """One image on its way through the network; an image with an `error` goes no further."""

    pixels: Tensor  # (3, h, w)
    scale: Tensor  # float32 ()
    size: tuple[int, int]  # height and width of the original
    has_given_boxes: bool
    boxes: Tensor  # float32 (R, 4), pixels of the original image
    regions: Tensor  # float32 (R, 4), pixels of the resized image
    copied: torch.cuda.Event | None = None  # a GPU has `pixels` only after it
    error: DetectionError | None = None
    feature: Tensor = field(init=False)  # (1, D', h', w'), the trunk's output
    features: Tensor = field(init=False)  # (R, D)
    class_probs: Tensor = field(init=False)  # (R, C)

    @property
    def resized_size(self) -> tuple[int, int]:
        return self.pixels.shape[-2], self.pixels.shape[-1]


def _from_input(inputs: dict[str, Any]) -> _Image:
    pixels, size, given_boxes = inputs["image"], (inputs["height"], inputs["width"]), inputs.get("boxes")
    empty = torch.empty(0, 4, device=pixels.device)
    scale = torch.full((), inputs["scale"], dtype=torch.float32, device=pixels.device)
    image = _Image(pixels, scale, size, given_boxes is not None, empty, empty, inputs.get("copied"))
    height, width = image.resized_size
    if min(height, width) < SHORTEST_SIDE:
        image.error = DetectionError(
            f"image of {size[1]}x{size[0]} pixels is too thin: resized to {width}x{height} it leaves a pooling layer "
            "without an output"
        )
    elif given_boxes is not None:
        image.boxes = torch.from_numpy(given_boxes).to(pixels.device)
        image.regions = torch.from_numpy(to_resized(given_boxes, inputs["scale"])).to(pixels.device)
    return image


def _without_error(images: Iterable[_Image]) -> list[_Image]:
    return [image for image in images if image.error is None]


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
        selection: SelectionRule,
        class_nms: float = 0.3,
        images_at_once: int = 1,
    ) -> None:
        """Join the parts.

        Args:
            backbone: computes `res4`.
            proposal_generator: proposes regions.
            roi_heads: computes features and predictions.
            selection: how many regions an image keeps.
            class_nms: IoU from which a better region of the same class removes one.
            images_at_once: images of one shape that go through the trunk together. On a CPU 1, which makes an image's
                numbers independent, bit for bit, of its neighbours; see docs/performance.md for what batching would
                bring. Halved for good when a GPU's memory is too small.
        """
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.selection = selection
        self.class_nms = class_nms
        self.images_at_once = images_at_once

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the constructor's arguments for a config."""
        backbone = build_backbone(cfg, ShapeSpec(channels=3))
        node = cfg.MODEL.BOTTOM_UP_ATTENTION
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
            "roi_heads": build_roi_heads(cfg, backbone.output_shape()),
            "selection": SelectionRule(node.MIN_BOXES, node.MAX_BOXES, node.CONF_THRESHOLD),
            "class_nms": node.CLASS_NMS,
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Find the regions of prepared images; for extraction only, not for training.

        Args:
            batched_inputs: for each image `image`, float32 (3, h, w), mean subtracted and resized; `scale`, resized
                size over original size; `height` and `width` of the original; optionally `boxes`, float32 (B, 4) in
                pixels of the original image, regions to describe and keep in place of proposals; optionally `copied`,
                an event after which a GPU has `image`, so that copies overlap with the work.

        Returns:
            For each image either `error`, a DetectionError, or `instances`, Instances of the original size with
            pred_boxes (K, 4), pred_classes int64 (K,), scores (K,), features (K, D), class_probs (K, C) and
            attribute_probs (K, A).
        """
        images = [_from_input(inputs) for inputs in batched_inputs]
        self._find_regions(_without_error(images))
        for image in _without_error(images):
            if len(image.regions) == 0:
                image.error = DetectionError(
                    f"image of {image.size[1]}x{image.size[0]} pixels is too small: no proposal has both sides of "
                    f"at least {self.proposal_generator.minimum_size:g} pixels"
                )
        # On a GPU this only queues the work: no number is waited for until all images are in the queue.
        for image in _without_error(images):
            image.features = self.roi_heads(image.feature, image.regions)
            image.class_probs = self.roi_heads.box_predictor.class_probabilities(image.features)
            del image.feature
        described = _without_error(images)
        for image, finite in zip(described, _are_finite(described), strict=True):
            if not finite:
                image.error = DetectionError("the network gave numbers that are not finite; are the weights sound?")
        self.select_regions([image for image in _without_error(images) if not image.has_given_boxes])
        return [{"error": image.error} if image.error else {"instances": self._instances(image)} for image in images]

    def _find_regions(self, images: Sequence[_Image]) -> None:
        """Set the trunk's output of every image, and the proposals of those without given boxes."""
        by_size: dict[tuple[int, int], list[_Image]] = {}
        for image in images:
            by_size.setdefault(image.resized_size, []).append(image)
        with_candidates: list[tuple[list[_Image], Candidates]] = []
        for group in by_size.values():
            run_trunk = partial(self._run_trunk, group)
            batches, self.images_at_once = run_with_oom_backoff(len(group), self.images_at_once, run_trunk, "images")
            with_candidates += [batch for batch in batches if batch is not None]
        if with_candidates:
            proposing = [image for batch, _ in with_candidates for image in batch]
            proposals = self.proposal_generator.proposals([candidates for _, candidates in with_candidates])
            for image, regions in zip(proposing, proposals, strict=True):
                image.regions, image.boxes = regions, regions / image.scale

    def _run_trunk(self, group: Sequence[_Image], rows: slice) -> tuple[list[_Image], Candidates] | None:
        """Put some images of one size through the trunk; return those without given boxes, with their candidates."""
        images = group[rows]
        for image in images:
            if image.copied is not None:
                torch.cuda.current_stream(image.pixels.device).wait_event(image.copied)
        pixels = torch.cat([image.pixels[None] for image in images]).contiguous(memory_format=torch.channels_last)
        outputs = self.backbone(pixels)["res4"].split(1)
        for image, output in zip(images, outputs, strict=True):
            image.feature = output
        proposing = [image for image in images if not image.has_given_boxes]
        if not proposing:
            return None
        features = torch.cat([image.feature for image in proposing])
        scales = torch.stack([image.scale for image in proposing])
        return proposing, self.proposal_generator.candidates(features, images[0].resized_size, scales)

    def select_regions(self, images: Sequence[_Image]) -> None:
        """Leave each image only the regions that the selection rule keeps."""
        scores = [image.class_probs[:, 1:] for image in images]
        chosen = choose_regions([image.boxes for image in images], scores, self.class_nms, self.selection)
        for image, rows in zip(images, chosen, strict=True):
            kept = torch.from_numpy(rows).to(image.boxes.device)
            image.boxes, image.features = image.boxes[kept], image.features[kept]
            image.class_probs = image.class_probs[kept]

    def _instances(self, image: _Image) -> Instances:
        scores, classes = image.class_probs[:, 1:].max(dim=1)
        best = image.class_probs.argmax(dim=1)
        return Instances(
            image.size,
            pred_boxes=Boxes(image.boxes),
            pred_classes=classes,
            scores=scores,
            features=image.features,
            class_probs=image.class_probs,
            attribute_probs=self.roi_heads.box_predictor.attribute_probabilities(image.features, best),
        )


def _are_finite(images: Sequence[_Image]) -> list[bool]:
    return torch.stack([image.class_probs.isfinite().all() for image in images]).tolist() if images else []
