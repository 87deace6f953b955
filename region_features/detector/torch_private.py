"""Every private or undocumented name of torch that the detector uses; tests/detector/test_private_apis.py checks them.

The operators of oneDNN (CPU) are those that torch's own compiler emits, the operators of cuDNN (GPU) those of
`torch.jit`'s optimiser. Both add and rectify before they write, which saves walks through memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

ONEDNN = torch.ops.mkldnn
FUSED_CONVOLUTIONS = ("_reorder_convolution_weight", "_convolution_pointwise", "_convolution_pointwise_")


def has_fused_convolutions() -> bool:
    """Return whether this build of torch has oneDNN's fused convolutions."""
    return torch.backends.mkldnn.is_available() and all(hasattr(ONEDNN, name) for name in FUSED_CONVOLUTIONS)


def cpu_has_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 itself (AVX-512 or AMX)."""
    return ONEDNN._is_mkldnn_bf16_supported()


class OneDnnConvolution:
    """A convolution without normalisation, by oneDNN.

    Args:
        conv: gives weights, bias and geometry.
        inputs: batch, height and width of every input, for which the weights are laid out once; None where they differ.
    """

    def __init__(self, conv: nn.Conv2d, inputs: tuple[int, int, int] | None) -> None:
        self.geometry: Any = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self.weight, self.bias = conv.weight, conv.bias
        if inputs:
            size = [inputs[0], conv.in_channels, *inputs[1:]]
            self.weight = ONEDNN._reorder_convolution_weight(conv.weight, *self.geometry, size)

    def __call__(self, x: Tensor, activation: str = "none") -> Tensor:
        """Return activation(convolution(x)), the activation `none` or `relu`."""
        return ONEDNN._convolution_pointwise(x, self.weight, self.bias, *self.geometry, activation, [], "")

    def add_relu_(self, x: Tensor, onto: Tensor) -> Tensor:
        """Return relu(onto + convolution(x)), written over `onto`."""
        arguments = (self.weight, self.bias, *self.geometry, "add", 1.0, "relu", [], "")
        return ONEDNN._convolution_pointwise_(onto, x, *arguments)


class CudnnConvolution:
    """A convolution without normalisation, by cuDNN."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.geometry: Any = (list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups)
        self.weight, self.bias = conv.weight, conv.bias

    def __call__(self, x: Tensor, activation: str = "none") -> Tensor:
        """Return activation(convolution(x)), the activation `none` or `relu`."""
        if activation == "relu":
            return torch.cudnn_convolution_relu(x, self.weight, self.bias, *self.geometry)
        return torch.conv2d(x, self.weight, self.bias, *self.geometry)

    def add_relu_(self, x: Tensor, onto: Tensor) -> Tensor:
        """Return relu(onto + convolution(x))."""
        return torch.cudnn_convolution_add_relu(x, self.weight, onto, 1.0, self.bias, *self.geometry)
