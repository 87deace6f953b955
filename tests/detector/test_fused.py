"""Blocks with bias, addition and ReLU inside the convolution; CPU functions stand in for cuDNN's operators."""

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
    stage = nn.Sequential(*residual_stage(6, Stage(2, 4, 8), dilation=2)).requires_grad_(False).eval()
    for module in stage.modules():
        if hasattr(module, "running_var"):
            nn.init.normal_(module.bias)  # type: ignore[arg-type]
    fold_batch_norm(stage)
    return stage


def conv_relu(x: Tensor, weight: Tensor, bias: Tensor, *settings: object) -> Tensor:
    return torch.relu(torch.conv2d(x, weight, bias, *settings))  # type: ignore[call-overload]


def conv_add_relu(x: Tensor, weight: Tensor, z: Tensor, alpha: float, bias: Tensor, *settings: object) -> Tensor:
    return torch.relu(torch.conv2d(x, weight, bias, *settings) + alpha * z)  # type: ignore[call-overload]


def test_cudnn_blocks_compute_the_same_as_plain_blocks(stage: nn.Sequential, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 6, 14, 14)
    expected = stage(x)
    monkeypatch.setattr(torch, "cudnn_convolution_relu", conv_relu)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", conv_add_relu)
    fuse_cuda_blocks(stage)
    torch.testing.assert_close(stage(x), expected)
    assert all(isinstance(block, CudnnBottleneck) and block.fused is not None for block in stage)


def test_without_a_cudnn_kernel_the_plain_block_runs(stage: nn.Sequential, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> Tensor:
        raise RuntimeError("FIND was unable to find an engine to execute this computation")

    x = torch.randn(3, 6, 14, 14)
    expected = stage(x)
    monkeypatch.setattr(torch, "cudnn_convolution_relu", none)
    fuse_cuda_blocks(stage)
    assert torch.equal(stage(x), expected)
    assert all(isinstance(block, CudnnBottleneck) and block.fused is None for block in stage)


def test_running_out_of_memory_does_not_disable_a_kernel(stage: nn.Sequential, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "cudnn_convolution_relu", full)
    fuse_cuda_blocks(stage)
    with pytest.raises(torch.OutOfMemoryError):
        stage(torch.randn(3, 6, 14, 14))
    first = stage[0]
    assert isinstance(first, CudnnBottleneck) and first.fused is not None


def test_pixels_are_pinned_only_on_a_machine_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    image = PreparedImage("a", 4, 5, 1.0, np.ones((4, 5, 3), np.float32), np.zeros((1, 4), np.float32))
    assert pinned(image) is image or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self.clone() + 1)
    copy = pinned(image)
    assert (copy.pixels == 2).all() and copy.boxes is image.boxes and copy.img_id == "a"
    thread = replace(image, pixels=np.empty((0, 5, 3), np.float32))
    assert pinned(thread) is thread
