"""What only a machine with a GPU can show: it gives the CPU's records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tests.detector.conftest import TINY, golden
from tests.detector.test_batches import noise
from transforms.detector import Detector
from transforms.detector.pinned import pinned
from transforms.records.precision import PRECISIONS
from transforms.records.prepared_image import BoxSettings, PreparedImage
from transforms.records.region_record import RegionRecord

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
# Of the largest feature; 16 bits keep 8 and 11 of a number's digits, TF32 11.
DEVIATION = {"float32": 1e-4, "tf32": 2e-2, "bfloat16": 5e-2, "float16": 2e-2}


def records(detector: Detector, images: Sequence[PreparedImage]) -> list[RegionRecord]:
    found = detector.detect(images)
    assert all(isinstance(record, RegionRecord) for record in found), found
    return [record for record in found if isinstance(record, RegionRecord)]


@pytest.fixture(scope="module")
def images() -> list[PreparedImage]:
    return [golden("s20x20").image, *(noise(seed, 240, 320) for seed in range(5)), noise(9, 320, 240)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_gpu_gives_the_cpus_records(detector: Detector, images: list[PreparedImage], precision: str) -> None:
    on_gpu = Detector.load(str(TINY), "cuda", BoxSettings(), precision)
    found = records(on_gpu, [pinned(image) for image in images])
    for record, wanted in zip(found, records(detector, images), strict=True):
        assert record.num_boxes == wanted.num_boxes
        distance = np.abs(wanted.boxes[:, None] - record.boxes[None]).max(axis=2)
        rows = np.flatnonzero(distance.min(axis=1) < 1)
        if precision == "float32":
            assert len(rows) >= wanted.num_boxes - 4  # of equal scores in noise, rounding decides
        apart = np.abs(record.features[distance.argmin(axis=1)[rows]] - wanted.features[rows])
        assert apart.max(initial=0) <= DEVIATION[precision] * np.abs(wanted.features).max()


def test_a_batch_gives_the_same_bytes_twice(images: list[PreparedImage]) -> None:
    on_gpu = Detector.load(str(TINY), "cuda", BoxSettings())
    for one, two in zip(records(on_gpu, images), records(on_gpu, images), strict=True):
        np.testing.assert_array_equal(one.features, two.features)
        np.testing.assert_array_equal(one.cls_prob, two.cls_prob)


def test_nothing_waits_for_the_gpu_inside_the_head(images: list[PreparedImage]) -> None:
    on_gpu = Detector.load(str(TINY), "cuda", BoxSettings())
    records(on_gpu, images[:2])
    heads = on_gpu.network.roi_heads
    feature = torch.randn(1, heads.res5[0].plain.conv1.in_channels, 15, 20, device="cuda")
    regions = torch.tensor([[0.0, 0.0, 99.0, 99.0], [5.0, 5.0, 200.0, 150.0]], device="cuda")
    with torch.inference_mode():
        torch.cuda.set_sync_debug_mode("error")
        try:
            heads.box_predictor.class_probabilities(heads(feature, regions))
        finally:
            torch.cuda.set_sync_debug_mode("default")
