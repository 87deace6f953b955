"""Depth and widths of one network of the family, as its weights have them."""

from __future__ import annotations

from dataclasses import dataclass

ANCHORS = 12  # of each cell of the feature map


@dataclass(frozen=True)
class Stage:
    """One residual stage: number of blocks, width inside a block, width between blocks."""

    blocks: int
    bottleneck: int
    channels: int


@dataclass(frozen=True)
class Architecture:
    """Numbers that differ between ResNet-101, ResNet-152 and a narrow test model.

    Attributes:
        stem: channels of conv1.
        stages: res2, res3, res4 (the trunk) and res5 (the head).
        rpn: channels of the proposal network's 3x3 convolution.
        classes: object classes without background.
        attributes: attributes without "none".
        embedding: width of the class embedding that the attribute head takes; 0 without an attribute head.
        attribute_hidden: width of the attribute head's hidden layer; 0 without an attribute head.
    """

    stem: int
    stages: tuple[Stage, Stage, Stage, Stage]
    rpn: int
    classes: int
    attributes: int
    embedding: int
    attribute_hidden: int

    @property
    def has_attribute_head(self) -> bool:
        """Whether attributes are predicted; without the head they are zeros of the same width."""
        return self.attribute_hidden > 0


RESNET_101 = Architecture(
    stem=64,
    stages=(Stage(3, 64, 256), Stage(4, 128, 512), Stage(23, 256, 1024), Stage(3, 512, 2048)),
    rpn=512,
    classes=1600,
    attributes=400,
    embedding=256,
    attribute_hidden=512,
)
