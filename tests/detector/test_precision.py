"""Other precisions than float32: their effect on features and boxes, and the devices that refuse them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from region_features.detector import Detector
from region_features.detector.precision import arithmetic, check_device, check_precision
from region_features.detector.torch_private import cpu_has_bfloat16
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord
from region_features.records.settings import CPU_PRECISIONS, PRECISIONS, SelectionRule
from tests.conftest import NO_BFLOAT16, TINY_WEIGHTS
from tests.detector.conftest import golden, noise

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
needs_bfloat16 = pytest.mark.skipif(not cpu_has_bfloat16(), reason=NO_BFLOAT16)


@needs_bfloat16
def test_bfloat16_keeps_float32s_boxes_and_nearly_its_features(detector: Detector) -> None:
    images = [golden("s32x64").image, noise(1, 480, 640)]
    rough = Detector.load(str(TINY_WEIGHTS), "cpu", SelectionRule(), "bfloat16")
    for exact, rounded in zip(detector.detect(images), rough.detect(images), strict=True):
        assert isinstance(exact, RegionRecord) and isinstance(rounded, RegionRecord)
        dtypes = [[getattr(record, field.name).dtype for field in ARRAY_FIELDS] for record in (exact, rounded)]
        assert dtypes[0] == dtypes[1]
        same = (exact.boxes[:, None] == rounded.boxes[None]).all(axis=2)
        rows = np.flatnonzero(same.any(axis=1))
        assert len(rows) >= exact.num_boxes - 8
        difference = np.abs(rounded.features[same.argmax(axis=1)[rows]] - exact.features[rows])
        assert 0 < difference.mean() / np.abs(exact.features).mean() < 0.02


@needs_bfloat16
def test_in_bfloat16_too_a_record_does_not_depend_on_its_batch() -> None:
    rough = Detector.load(str(TINY_WEIGHTS), "cpu", SelectionRule(), "bfloat16")
    images = [noise(1, 120, 160), noise(2, 120, 160), noise(3, 90, 160)]
    for together, image in zip(rough.detect(images), images, strict=True):
        (alone,) = rough.detect([image])
        assert isinstance(together, RegionRecord) and isinstance(alone, RegionRecord)
        np.testing.assert_array_equal(together.features, alone.features)


@pytest.mark.parametrize("precision", sorted(set(PRECISIONS) - set(CPU_PRECISIONS)))
def test_a_cpu_refuses_what_needs_tensor_cores(precision: str) -> None:
    with pytest.raises(ValueError, match=f"--precision {precision}: a CPU does float32 or bfloat16 only"):
        Detector.load(str(TINY_WEIGHTS), "cpu", SelectionRule(), precision)


def test_a_device_or_precision_that_the_machine_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_device("auto", "float32")
    with pytest.raises(ValueError, match="--device cuda: expected a GPU that torch can use, found none"):
        check_device("cuda", "float32")
    with pytest.raises(ValueError, match="--precision tf32: a CPU does float32 or bfloat16 only"):
        check_device("auto", "tf32")


def test_a_cpu_without_bfloat16_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("region_features.detector.precision.cpu_has_bfloat16", lambda: False)
    with pytest.raises(ValueError, match=r"this CPU does not have it .*; use float32"):
        check_precision("bfloat16", CPU)


@pytest.mark.parametrize(
    ("precision", "capability", "refused"),
    [
        ("float32", (6, 0), False),
        ("float16", (7, 5), False),
        ("tf32", (7, 5), True),
        ("bfloat16", (7, 5), True),
        ("tf32", (8, 0), False),
        ("bfloat16", (9, 0), False),
    ],
)
def test_a_gpu_refuses_what_it_would_emulate(
    precision: str, capability: tuple[int, int], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    if refused:
        with pytest.raises(ValueError, match="Tesla T4 does not have it"):
            check_precision(precision, CUDA)
    else:
        check_precision(precision, CUDA)


@pytest.mark.parametrize(
    ("precision", "products", "convolutions"),
    [("float32", False, False), ("tf32", True, True), ("bfloat16", False, True), ("float16", False, True)],
)
def test_each_precision_switches_tf32_for_products_and_convolutions(
    precision: str, products: bool, convolutions: bool
) -> None:
    def switches() -> tuple[bool, bool, bool]:
        cudnn = torch.backends.cudnn
        return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark

    before = switches()
    with arithmetic(precision, CUDA):
        assert switches() == (products, convolutions, False)
    assert switches() == before


def test_the_error_of_an_unknown_precision_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="expected one of float32, tf32, bfloat16, float16"):
        check_precision("int8", CPU)
