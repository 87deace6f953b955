"""Other precisions than float32: what they change, what they leave, and who refuses them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.detector.conftest import TINY, golden
from tests.detector.test_batches import noise
from transforms.detector import Detector
from transforms.detector.precision import arithmetic, check_precision
from transforms.records.precision import CPU_PRECISIONS, PRECISIONS
from transforms.records.prepared_image import BoxSettings
from transforms.records.region_record import ARRAY_FIELDS, RegionRecord

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
has_bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.mark.skipif(not has_bfloat16, reason="this CPU has no bfloat16")
def test_bfloat16_is_near_float32_and_not_equal(detector: Detector) -> None:
    images = [golden("s32x64").image, noise(1, 480, 640)]
    rough = Detector.load(str(TINY), "cpu", BoxSettings(), "bfloat16")
    for image, exact, near in zip(images, detector.detect(images), rough.detect(images), strict=True):
        assert isinstance(exact, RegionRecord) and isinstance(near, RegionRecord)
        assert [getattr(near, field.name).dtype for field in ARRAY_FIELDS] == [
            getattr(exact, field.name).dtype for field in ARRAY_FIELDS
        ]
        distance = np.abs(exact.boxes[:, None] - near.boxes[None]).max(axis=2)
        rows = np.flatnonzero(distance.min(axis=1) < 0.02 * max(image.height, image.width))
        assert len(rows) >= exact.num_boxes // 2
        theirs = near.features[distance.argmin(axis=1)[rows]]
        deviation = np.abs(theirs - exact.features[rows]).mean() / np.abs(exact.features).mean()
        assert 0 < deviation < 0.1


def test_bfloat16_depends_on_no_neighbour_either() -> None:
    if not has_bfloat16:
        pytest.skip("this CPU has no bfloat16")
    rough = Detector.load(str(TINY), "cpu", BoxSettings(), "bfloat16")
    images = [noise(1, 120, 160), noise(2, 120, 160), noise(3, 90, 160)]
    for together, image in zip(rough.detect(images), images, strict=True):
        (alone,) = rough.detect([image])
        assert isinstance(together, RegionRecord) and isinstance(alone, RegionRecord)
        np.testing.assert_array_equal(together.features, alone.features)


@pytest.mark.parametrize("precision", sorted(set(PRECISIONS) - set(CPU_PRECISIONS)))
def test_a_cpu_refuses_what_needs_tensor_cores(precision: str) -> None:
    with pytest.raises(ValueError, match=f"--precision {precision}: a CPU does float32 or bfloat16 only"):
        Detector.load(str(TINY), "cpu", BoxSettings(), precision)


def test_a_cpu_without_bfloat16_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
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


@pytest.mark.parametrize(("precision", "wanted"), [("float32", False), ("tf32", True), ("float16", False)])
def test_tf32_is_on_only_where_it_is_asked_for(precision: str, wanted: bool) -> None:
    def switches() -> tuple[bool, bool, bool]:
        cudnn = torch.backends.cudnn
        return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark

    before = switches()
    with arithmetic(precision, CUDA):
        assert switches() == (wanted, wanted, False)
    assert switches() == before


def test_an_unknown_precision_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="expected one of float32, tf32, bfloat16, float16"):
        check_precision("int8", CPU)
