"""Blocks with bias, addition and ReLU inside the convolution; cuDNN's operators are stood in for on the CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from region_features.detector.architecture import Stage
from region_features.detector.network.backbone import residual_stage
from region_features.detector.network.fused import CudnnBottleneck, fold_batch_norm, fuse_cuda_blocks
from region_features.detector.pinned import pinned
from region_features.records.prepared_image import PreparedImage


@pytest.fixture
def stage() -> nn.Sequential:
    torch.manual_seed(0)
    found = nn.Sequential(*residual_stage(6, Stage(2, 4, 8), dilation=2)).requires_grad_(False).eval()
    for module in found.modules():
        if hasattr(module, "running_var"):
            nn.init.normal_(module.bias)  # type: ignore[arg-type]
    fold_batch_norm(found)
    return found


def conv_relu(x: Tensor, weight: Tensor, bias: Tensor, *settings: object) -> Tensor:
    return torch.relu(torch.conv2d(x, weight, bias, *settings))  # type: ignore[call-overload]


def conv_add_relu(x: Tensor, weight: Tensor, z: Tensor, alpha: float, bias: Tensor, *settings: object) -> Tensor:
    return torch.relu(torch.conv2d(x, weight, bias, *settings) + alpha * z)  # type: ignore[call-overload]


def test_cudnns_blocks_compute_what_the_plain_ones_do(stage: nn.Sequential, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 6, 14, 14)
    wanted = stage(x)
    monkeypatch.setattr(torch, "cudnn_convolution_relu", conv_relu)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", conv_add_relu)
    fuse_cuda_blocks(stage)
    torch.testing.assert_close(stage(x), wanted)
    assert all(isinstance(block, CudnnBottleneck) and block.fused is not None for block in stage)


def test_where_cudnn_has_no_kernel_the_plain_block_runs(stage: nn.Sequential, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> Tensor:
        raise RuntimeError("FIND was unable to find an engine to execute this computation")

    x = torch.randn(3, 6, 14, 14)
    wanted = stage(x)
    monkeypatch.setattr(torch, "cudnn_convolution_relu", none)
    fuse_cuda_blocks(stage)
    assert torch.equal(stage(x), wanted)
    assert all(isinstance(block, CudnnBottleneck) and block.fused is None for block in stage)


def test_too_little_memory_is_no_reason_to_give_a_kernel_up(
    stage: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "cudnn_convolution_relu", full)
    fuse_cuda_blocks(stage)
    with pytest.raises(torch.OutOfMemoryError):
        stage(torch.randn(3, 6, 14, 14))
    first = stage[0]
    assert isinstance(first, CudnnBottleneck) and first.fused is not None


def test_pixels_are_pinned_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    image = PreparedImage("a", 4, 5, 1.0, np.ones((4, 5, 3), np.float32), np.zeros((1, 4), np.float32))
    assert pinned(image) is image or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self.clone() + 1)
    found = pinned(image)
    assert (found.pixels == 2).all() and found.boxes is image.boxes and found.img_id == "a"
    thread = replace(image, pixels=np.empty((0, 5, 3), np.float32))
    assert pinned(thread) is thread
