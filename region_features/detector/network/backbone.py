"""The trunk: detectron2's ResNet with the original Caffe stem and strides.

n: images; h, w: pixels of the resized image; C: channels.
"""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet
from torch import Tensor
from torch.nn import functional as F

from region_features.detector.architecture import Stage
from region_features.detector.network.config import architecture_of

# Resized images with a shorter side leave pool1 without an output.
SHORTEST_SIDE = 3


def _normalised(in_channels: int, out_channels: int, kernel: int, stride: int) -> Conv2d:
    norm = FrozenBatchNorm2d(out_channels)
    padding = kernel // 2
    return Conv2d(in_channels, out_channels, kernel, stride=stride, padding=padding, bias=False, norm=norm)


class CeilPoolStem(CNNBlockBase):
    """conv1 and pool1: 7x7 with stride 2, then a 3x3 max pool with stride 2, no padding and ceil mode."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4)
        self.conv1 = _normalised(in_channels, out_channels, kernel=7, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, C, about h/4, about w/4) of (n, 3, h, w)."""
        x = F.relu_(self.conv1(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, ceil_mode=True)


def residual_stage(in_channels: int, stage: Stage, stride: int = 1, dilation: int = 1) -> list[BottleneckBlock]:
    """Build a stage as Caffe's ResNet has it: stride on the 1x1 convolutions, a projection in every first block."""
    blocks = []
    for index in range(stage.blocks):
        block = BottleneckBlock(
            in_channels if index == 0 else stage.channels,
            stage.channels,
            bottleneck_channels=stage.bottleneck,
            stride=stride if index == 0 else 1,
            norm="FrozenBN",
            stride_in_1x1=True,
            dilation=dilation,
        )
        if index == 0 and block.shortcut is None:
            # Caffe has branch1 here; detectron2 leaves the projection out if both widths are equal.
            block.shortcut = _normalised(in_channels, stage.channels, kernel=1, stride=stride)
        blocks.append(block)
    return blocks


@BACKBONE_REGISTRY.register()
def build_bottom_up_attention_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build conv1 to the last block of res4, with one output `res4` of stride 16."""
    architecture = architecture_of(cfg)
    stem = CeilPoolStem(input_shape.channels, architecture.stem)
    stages, channels = [], architecture.stem
    for stage, stride in zip(architecture.stages[:3], (1, 2, 2), strict=True):
        stages.append(residual_stage(channels, stage, stride))
        channels = stage.channels
    return ResNet(stem, stages, out_features=["res4"])
