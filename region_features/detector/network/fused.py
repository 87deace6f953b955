"""Faster forms of the same network, for inference.

Batch normalisation is folded into the weights; bias, ReLU and the residual blocks' addition are done inside the
convolutions of oneDNN (CPU) and cuDNN (GPU), while detectron2's blocks walk their output three more times in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import Tensor, nn

from region_features.detector.torch_private import CudnnConvolution, OneDnnConvolution

_Fused = OneDnnConvolution | CudnnConvolution


@torch.no_grad()
def fold_batch_norm(model: nn.Module) -> None:
    """Replace every convolution's FrozenBatchNorm2d by weights and a bias, computed in double, in place."""
    for conv in model.modules():
        if not isinstance(conv, Conv2d) or not isinstance(conv.norm, FrozenBatchNorm2d):
            continue
        norm = conv.norm
        gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        bias = norm.bias.double() - norm.running_mean.double() * gain
        if conv.bias is not None:
            bias = bias + conv.bias.double() * gain
        conv.weight = nn.Parameter((conv.weight.double() * gain[:, None, None, None]).float(), requires_grad=False)
        conv.bias = nn.Parameter(bias.float(), requires_grad=False)
        conv.norm = None


class FusedBottleneck(nn.Module):
    """The same function as a folded BottleneckBlock, for inference."""

    def __init__(self, block: BottleneckBlock, fuse: Callable[[Conv2d], _Fused]) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = fuse(block.conv1), fuse(block.conv2), fuse(block.conv3)
        self.shortcut = None if block.shortcut is None else fuse(block.shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output; on a CPU, without a shortcut convolution, it is written over `x`."""
        hidden = self.conv2(self.conv1(x, "relu"), "relu")
        return self.conv3.add_relu_(hidden, onto=x if self.shortcut is None else self.shortcut(x))


def fuse_cpu_blocks(stage: nn.Sequential, inputs: tuple[int, int, int] | None = None) -> None:
    """Replace the blocks of a stage on a CPU, in place.

    Args:
        stage: folded BottleneckBlocks; the first has a shortcut convolution, so the stage's input is never overwritten.
        inputs: batch, height and width of every block's input, for which the weights are laid out once; None where
            they differ: a layout made for another size is slower than laying out in every call.
    """
    for index, block in enumerate(stage):
        stage[index] = FusedBottleneck(block, partial(OneDnnConvolution, inputs=inputs))


class CudnnBottleneck(nn.Module):
    """A folded block on a GPU, fused if cuDNN has kernels for its shapes and type, and plain if not."""

    def __init__(self, block: BottleneckBlock) -> None:
        super().__init__()
        self.plain = block
        self.fused: FusedBottleneck | None = FusedBottleneck(block, CudnnConvolution)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        if self.fused is not None:
            try:
                return self.fused(x)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # cuDNN names many reasons; a broken GPU fails again below
                self.fused = None
        return self.plain(x)


def fuse_cuda_blocks(stage: nn.Sequential) -> None:
    """Replace the blocks of a stage on a GPU, in place."""
    for index, block in enumerate(stage):
        stage[index] = CudnnBottleneck(block)
