"""Residual blocks with bias, ReLU and the addition done inside the convolutions of oneDNN (CPU) and cuDNN (GPU).

Each of detectron2's blocks otherwise walks its output three more times through memory. The CPU's operators are the ones
that torch's own compiler emits; where a torch build lacks them the blocks stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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
    """A folded convolution, by oneDNN's kernels that add and rectify before they write."""

    def __init__(self, conv: Conv2d, inputs: tuple[int, int, int] | None) -> None:
        self.settings = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self.weight, self.bias = conv.weight, conv.bias
        if inputs:
            size = [inputs[0], conv.in_channels, *inputs[1:]]
            self.weight = _OPS._reorder_convolution_weight(conv.weight, *self.settings, size)

    def __call__(self, x: Tensor, activation: str = "none") -> Tensor:
        return _OPS._convolution_pointwise(x, self.weight, self.bias, *self.settings, activation, [], "")

    def add_relu_(self, x: Tensor, onto: Tensor) -> Tensor:
        """relu(onto + convolution(x)), written over `onto`."""
        return _OPS._convolution_pointwise_(onto, x, self.weight, self.bias, *self.settings, "add", 1.0, "relu", [], "")


class _CudnnConvolution:
    """A folded convolution, by cuDNN's kernels that add and rectify before they write."""

    def __init__(self, conv: Conv2d) -> None:
        self.settings = (list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups)
        self.weight, self.bias = conv.weight, conv.bias

    def __call__(self, x: Tensor, activation: str = "none") -> Tensor:
        if activation == "relu":
            return torch.cudnn_convolution_relu(x, self.weight, self.bias, *self.settings)
        return torch.conv2d(x, self.weight, self.bias, *self.settings)

    def add_relu_(self, x: Tensor, onto: Tensor) -> Tensor:
        """relu(onto + convolution(x))."""
        return torch.cudnn_convolution_add_relu(x, self.weight, onto, 1.0, self.bias, *self.settings)


_Fused = _FusedConvolution | _CudnnConvolution


class FusedBottleneck(nn.Module):
    """The same function as a folded BottleneckBlock, for inference."""

    def __init__(self, conv1: _Fused, conv2: _Fused, conv3: _Fused, shortcut: _Fused | None) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.shortcut = conv1, conv2, conv3, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """The block's output; on the CPU, without a shortcut convolution, it is written over `x`."""
        hidden = self.conv2(self.conv1(x, "relu"), "relu")
        return self.conv3.add_relu_(hidden, onto=x if self.shortcut is None else self.shortcut(x))


def _fused(block: BottleneckBlock, fuse: Callable[[Conv2d], _Fused]) -> FusedBottleneck:
    shortcut = None if block.shortcut is None else fuse(block.shortcut)
    return FusedBottleneck(fuse(block.conv1), fuse(block.conv2), fuse(block.conv3), shortcut)


def fuse_blocks(stage: nn.Sequential, inputs: tuple[int, int, int] | None = None) -> None:
    """Replaces the blocks of a stage on the CPU, in place.

    Args:
        stage: folded BottleneckBlocks; the first has a shortcut convolution, so the stage's input is never overwritten.
        inputs: batch, height and width of every block's input, for which the weights are laid out once; None where
            they differ: kernels for a layout that was made for another size are slower than laying out in every call.
    """
    for index, block in enumerate(stage):
        stage[index] = _fused(block, partial(_FusedConvolution, inputs=inputs))


class CudnnBottleneck(nn.Module):
    """A block on a GPU: fused where cuDNN has kernels for its shapes and type, as it was where it has none."""

    def __init__(self, block: BottleneckBlock) -> None:
        """Takes a folded block, on its device and in its type."""
        super().__init__()
        self.plain = block
        self.fused: FusedBottleneck | None = _fused(block, _CudnnConvolution)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        if self.fused is not None:
            try:
                return self.fused(x)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # cuDNN names many reasons; a broken GPU fails again below
                self.fused = None
        return self.plain(x)


def fuse_cuda_blocks(stage: nn.Sequential) -> None:
    """Replaces the blocks of a stage on a GPU, in place."""
    for index, block in enumerate(stage):
        stage[index] = CudnnBottleneck(block)
