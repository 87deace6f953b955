"""Residual blocks on the CPU with bias, ReLU and the addition done inside oneDNN's convolutions.

Each of detectron2's blocks otherwise walks its output three more times through memory. The operators are the ones that
torch's own compiler emits; where a torch build lacks them the blocks stay as they are.
"""

from __future__ import annotations

import torch
from detectron2.layers import Conv2d
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import Tensor, nn

_OPS = torch.ops.mkldnn


def available() -> bool:
    """Whether this torch has oneDNN's fused convolutions."""
    names = ("_reorder_convolution_weight", "_convolution_pointwise", "_convolution_pointwise_")
    return torch.backends.mkldnn.is_available() and all(hasattr(_OPS, name) for name in names)


class _FusedConvolution:
    """A folded convolution with its weights laid out for oneDNN."""

    def __init__(self, conv: Conv2d, inputs: tuple[int, int, int]) -> None:
        self.settings = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        size = [inputs[0], conv.in_channels, *inputs[1:]]
        self.weight = _OPS._reorder_convolution_weight(conv.weight, *self.settings, size)
        self.bias = conv.bias

    def __call__(self, x: Tensor, activation: str = "none") -> Tensor:
        return _OPS._convolution_pointwise(x, self.weight, self.bias, *self.settings, activation, [], "")

    def add_relu_(self, x: Tensor, onto: Tensor) -> Tensor:
        """relu(onto + convolution(x)), written over `onto`."""
        return _OPS._convolution_pointwise_(onto, x, self.weight, self.bias, *self.settings, "add", 1.0, "relu", [], "")


class FusedBottleneck(nn.Module):
    """The same function as a folded BottleneckBlock, for inference on the CPU."""

    def __init__(self, block: BottleneckBlock, inputs: tuple[int, int, int]) -> None:
        """Takes over a block's weights.

        Args:
            block: batch normalisation folded.
            inputs: usual batch, height and width of the input; they guide the layout of the weights only.
        """
        super().__init__()
        self.conv1 = _FusedConvolution(block.conv1, inputs)
        self.conv2 = _FusedConvolution(block.conv2, inputs)
        self.conv3 = _FusedConvolution(block.conv3, inputs)
        self.shortcut = None if block.shortcut is None else _FusedConvolution(block.shortcut, inputs)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output; without a shortcut convolution it is written over `x`."""
        hidden = self.conv2(self.conv1(x, "relu"), "relu")
        return self.conv3.add_relu_(hidden, onto=x if self.shortcut is None else self.shortcut(x))


def fuse_blocks(stage: nn.Sequential, inputs: tuple[int, int, int]) -> None:
    """Replaces the blocks of a stage, in place.

    Args:
        stage: folded BottleneckBlocks; the first has a shortcut convolution, so the stage's input is never overwritten.
        inputs: usual batch, height and width of the stage's input.
    """
    for index, block in enumerate(stage):
        stage[index] = FusedBottleneck(block, inputs)
