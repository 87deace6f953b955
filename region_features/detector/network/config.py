"""Keys that this extension adds to a detectron2 config, and the config of a network of given widths."""

from __future__ import annotations

from detectron2.config import CfgNode, get_cfg

from region_features.detector.architecture import RESNET_101, Architecture, Stage
from region_features.records.settings import SelectionRule

# Field of Architecture -> key of the config.
_WIDTHS = {
    "stem": "STEM_CHANNELS",
    "rpn": "RPN_CHANNELS",
    "classes": "CLASSES",
    "attributes": "ATTRIBUTES",
    "embedding": "EMBEDDING",
    "attribute_hidden": "ATTRIBUTE_HIDDEN",
}


def _write(node: CfgNode, architecture: Architecture) -> None:
    for field, key in _WIDTHS.items():
        node[key] = getattr(architecture, field)
    node.STAGE_BLOCKS = [stage.blocks for stage in architecture.stages]
    node.STAGE_BOTTLENECKS = [stage.bottleneck for stage in architecture.stages]
    node.STAGE_CHANNELS = [stage.channels for stage in architecture.stages]


def add_bottom_up_attention_config(cfg: CfgNode) -> None:
    """Add `MODEL.BOTTOM_UP_ATTENTION`, filled in for the published 36-box ResNet-101, and choose this network."""
    node = CfgNode()
    _write(node, RESNET_101)
    # Proposals: best by foreground probability, non-maximum suppression, best of the rest.
    node.PRE_NMS_PROPOSALS = 6000
    node.PROPOSALS = 300
    node.PROPOSAL_NMS = 0.7
    node.MIN_PROPOSAL_SIZE = 16  # pixels of the original image
    # Regions: suppression within each class, then by confidence.
    node.CLASS_NMS = 0.3
    node.MIN_BOXES = 36
    node.MAX_BOXES = 36
    node.CONF_THRESHOLD = 0.2
    cfg.MODEL.BOTTOM_UP_ATTENTION = node
    cfg.MODEL.META_ARCHITECTURE = "BottomUpAttentionRCNN"
    cfg.MODEL.BACKBONE.NAME = "build_bottom_up_attention_backbone"
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "BottomUpAttentionRPN"
    cfg.MODEL.ROI_HEADS.NAME = "BottomUpAttentionHeads"


def network_config(architecture: Architecture, selection: SelectionRule, device: str) -> CfgNode:
    """Return a whole detectron2 config for a network of this family.

    Args:
        architecture: depth and widths.
        selection: how many regions an image keeps.
        device: where `build_model` puts the weights.
    """
    cfg = get_cfg()
    add_bottom_up_attention_config(cfg)
    node = cfg.MODEL.BOTTOM_UP_ATTENTION
    _write(node, architecture)
    node.MIN_BOXES, node.MAX_BOXES, node.CONF_THRESHOLD = selection.minimum, selection.maximum, selection.threshold
    cfg.MODEL.DEVICE = device
    return cfg


def architecture_of(cfg: CfgNode) -> Architecture:
    """Return the architecture that a config describes; the inverse of `network_config`.

    Raises:
        ValueError: the config has not four stages.
    """
    node = cfg.MODEL.BOTTOM_UP_ATTENTION
    numbers = zip(node.STAGE_BLOCKS, node.STAGE_BOTTLENECKS, node.STAGE_CHANNELS, strict=True)
    stages = tuple(Stage(*stage) for stage in numbers)
    if len(stages) != 4:
        raise ValueError(f"MODEL.BOTTOM_UP_ATTENTION: expected four stages (res2 to res5), got {len(stages)}")
    return Architecture(stages=stages, **{field: node[key] for field, key in _WIDTHS.items()})
