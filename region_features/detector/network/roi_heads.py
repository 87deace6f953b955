"""The head: RoIPool, res5, class scores and attributes.

R: regions; D: feature width; C: classes with background; A: attributes with "none".
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from region_features.detector.architecture import Architecture
from region_features.detector.network.backbone import residual_stage
from region_features.detector.network.config import architecture_of
from region_features.detector.network.region_pool import max_tables, pool_chunk, pool_indices
from region_features.detector.oom_backoff import run_with_oom_backoff


class RegionPredictor(nn.Module):
    """Layer `cls_score`, and the attribute head on a feature joined with the embedding of its best class.

    Some ports of the network come without an attribute head (hidden width 0): their attributes are zeros.
    """

    def __init__(self, net: Architecture) -> None:
        super().__init__()
        width = net.stages[3].channels
        self.cls_score = nn.Linear(width, net.classes + 1)
        self.attributes = net.attributes
        self.has_attribute_head = net.has_attribute_head
        if self.has_attribute_head:
            self.cls_embedding = nn.Embedding(net.classes + 1, net.embedding)
            self.fc_attr = nn.Linear(width + net.embedding, net.attribute_hidden)
            self.attr_score = nn.Linear(net.attribute_hidden, net.attributes + 1)

    def class_probabilities(self, features: Tensor) -> Tensor:
        """Return the softmax (R, C) over the classes, background first, of features (R, D)."""
        return torch.softmax(self.cls_score(features), dim=1)

    def attribute_probabilities(self, features: Tensor, classes: Tensor) -> Tensor:
        """Return the softmax (R, A) over the attributes, "none" first, of features (R, D) and best classes (R,)."""
        if not self.has_attribute_head:
            return features.new_zeros(len(features), self.attributes + 1)
        joined = torch.cat([features, self.cls_embedding(classes)], dim=1)
        return torch.softmax(self.attr_score(F.relu_(self.fc_attr(joined))), dim=1)


@ROI_HEADS_REGISTRY.register()
class BottomUpAttentionHeads(nn.Module):
    """res5 over pooled regions at stride 1 with dilated 3x3 convolutions, then the predictor.

    Source: https://arxiv.org/abs/1707.07998 and the original's `test.prototxt`.
    """

    @configurable
    def __init__(self, *, architecture: Architecture, chunk: int = 15) -> None:
        """Build the head.

        Args:
            architecture: of the whole network.
            chunk: regions that go through res5 together; the default suits a processor's cache. Halved for good when
                a GPU's memory is too small.
        """
        super().__init__()
        _, _, res4, res5 = architecture.stages
        self.res5 = nn.Sequential(*residual_stage(res4.channels, res5, dilation=2))
        self.box_predictor = RegionPredictor(architecture)
        self.chunk = chunk
        self.dtype = torch.float32

    def use_dtype(self, dtype: torch.dtype) -> None:
        """Make res5 compute in another type; features, class and attribute scores stay float32."""
        self.res5.to(dtype)
        self.dtype = dtype

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Return the constructor's arguments for a config."""
        del input_shape  # of the trunk, which the config describes too
        return {"architecture": architecture_of(cfg)}

    def forward(self, feature: Tensor, regions: Tensor) -> Tensor:
        """Compute the features of the regions of one image.

        A chunk never spans two images, so a feature does not depend on the other images of a batch.

        Args:
            feature: (1, D', h, w), the trunk's output.
            regions: float32 (R, 4), pixels of the resized image.

        Returns:
            float32 (R, D).
        """
        tables = max_tables(feature.to(self.dtype))  # rounding is monotonic: before or after the maximum is the same
        indices = pool_indices(tables, regions).view(4, len(regions), -1)

        def describe(rows: slice) -> Tensor:
            pooled = pool_chunk(tables, indices[:, rows].reshape(4, -1))
            return self.res5(pooled).mean(dim=(2, 3), dtype=torch.float32)

        chunks, self.chunk = run_with_oom_backoff(len(regions), self.chunk, describe, "regions")
        return torch.cat(chunks)
