"""Fold batch normalisation into the convolution before it: the same function, one multiplication less a value."""

from __future__ import annotations

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn


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
