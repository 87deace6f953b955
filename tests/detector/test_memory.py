"""Batches shrink when a GPU's memory is too small; a GPU that is lost is told from one that fails once."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch

from region_features.detector import Detector
from region_features.detector.device_loss import detect_device_loss
from region_features.detector.errors import DeviceLostError
from region_features.detector.oom_backoff import run_with_oom_backoff
from region_features.records.settings import SelectionRule
from tests.conftest import TINY_WEIGHTS
from tests.detector.conftest import assert_identical, noise

OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class Memory:
    """Room for `limit` items at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.attempts: list[int] = []

    def work(self, rows: slice) -> list[int]:
        items = list(range(rows.start, rows.stop))
        self.attempts.append(len(items))
        if len(items) > self.limit:
            raise OUT_OF_MEMORY
        return items


def test_batches_are_halved_until_they_fit_and_no_item_is_processed_twice(caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory(limit=20)
    results, size = run_with_oom_backoff(100, 64, memory.work, "regions")
    assert [item for batch in results for item in batch] == list(range(100))
    assert (size, memory.attempts) == (16, [64, 32, 16, 16, 16, 16, 16, 16, 4])
    assert [record.getMessage() for record in caplog.records] == [
        "out of GPU memory with 64 regions at once: from now on 32",
        "out of GPU memory with 32 regions at once: from now on 16",
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_batches_that_fit_keep_their_size() -> None:
    assert run_with_oom_backoff(10, 4, Memory(limit=4).work, "images") == ([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]], 4)
    assert run_with_oom_backoff(0, 4, Memory(limit=4).work, "images") == ([], 4)


def test_a_single_item_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        run_with_oom_backoff(3, 2, Memory(limit=0).work, "images")


def test_a_detector_short_of_memory_gives_the_same_records(
    detector: Detector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    small = Detector.load(str(TINY_WEIGHTS), "cpu", SelectionRule())
    small.network.images_at_once, small.network.roi_heads.chunk = 4, 60
    trunk, res5 = small.network.backbone.forward, small.network.roi_heads.res5.forward

    def limited(forward: Callable[[torch.Tensor], object], limit: int) -> Callable[[torch.Tensor], object]:
        def run(x: torch.Tensor) -> object:
            if len(x) > limit:
                raise OUT_OF_MEMORY
            return forward(x)

        return run

    monkeypatch.setattr(small.network.backbone, "forward", limited(trunk, 1))
    monkeypatch.setattr(small.network.roi_heads.res5, "forward", limited(res5, 15))
    images = [noise(1, 120, 160), noise(2, 120, 160), noise(3, 90, 160)]
    for _ in range(2):
        for expected, record in zip(detector.detect(images), small.detect(images), strict=True):
            assert_identical(expected, record)
    assert (small.network.images_at_once, small.network.roi_heads.chunk) == (1, 15)
    assert [record.getMessage() for record in caplog.records] == [
        "out of GPU memory with 2 images at once: from now on 1",
        "out of GPU memory with 60 regions at once: from now on 30",
        "out of GPU memory with 30 regions at once: from now on 15",
    ]


def test_an_error_of_a_gpu_that_still_computes_is_raised_unchanged() -> None:
    with pytest.raises(RuntimeError, match="cuDNN error") as caught, detect_device_loss(torch.device("cpu")):
        raise RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED")
    assert not isinstance(caught.value, DeviceLostError)


def test_a_gpu_that_no_longer_computes_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "ones", dead)
    with pytest.raises(DeviceLostError, match="more: CUDA error: misaligned"), detect_device_loss(torch.device("cuda")):
        raise RuntimeError("CUDA error: misaligned address")
