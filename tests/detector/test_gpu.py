"""On a GPU the detector gives the CPU's records; skipped on a machine without one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from region_features.detector import Detector
from region_features.detector.pinned import pinned
from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import RegionRecord
from region_features.records.settings import PRECISIONS, SelectionRule
from tests.conftest import NO_GPU, TINY_WEIGHTS
from tests.detector.conftest import golden, noise

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
# Largest deviation of the median region, as a share of the mean feature. Single regions may deviate more: a box that
# moves by a fraction of a pixel may fall into other cells.
DEVIATION = {"float32": 1e-4, "tf32": 5e-3, "bfloat16": 1e-2, "float16": 5e-3}


def records(detector: Detector, images: Sequence[PreparedImage]) -> list[RegionRecord]:
    results = detector.detect(images)
    assert len(results) == len(images) and all(isinstance(result, RegionRecord) for result in results), results
    return [result for result in results if isinstance(result, RegionRecord)]


@pytest.fixture(scope="module")
def images() -> list[PreparedImage]:
    return [golden("s20x20").image, *(noise(seed, 240, 320) for seed in range(5)), noise(9, 320, 240)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_gpu_gives_the_cpus_records(detector: Detector, images: list[PreparedImage], precision: str) -> None:
    on_gpu = Detector.load(str(TINY_WEIGHTS), "cuda", SelectionRule(), precision)
    reference = records(detector, images)
    matched, deviations = 0, []
    for record, expected in zip(records(on_gpu, [pinned(image) for image in images]), reference, strict=True):
        assert record.num_boxes == expected.num_boxes
        distance = np.abs(expected.boxes[:, None] - record.boxes[None]).max(axis=2)
        rows = np.flatnonzero(distance.min(axis=1) < 1)
        matched += len(rows)
        difference = np.abs(record.features[distance.argmin(axis=1)[rows]] - expected.features[rows])
        deviations.append(difference.mean(axis=1) / np.abs(expected.features).mean())
    # Noise has nearly equal scores, of which rounding chooses one.
    assert matched >= (0.9 if precision == "float32" else 0.75) * sum(expected.num_boxes for expected in reference)
    assert np.median(np.concatenate(deviations)) <= DEVIATION[precision]


def test_a_batch_gives_the_same_bytes_twice(images: list[PreparedImage]) -> None:
    on_gpu = Detector.load(str(TINY_WEIGHTS), "cuda", SelectionRule())
    for first, second in zip(records(on_gpu, images), records(on_gpu, images), strict=True):
        np.testing.assert_array_equal(first.features, second.features)
        np.testing.assert_array_equal(first.cls_prob, second.cls_prob)


def test_the_head_queues_its_work_without_waiting_for_the_gpu(images: list[PreparedImage]) -> None:
    on_gpu = Detector.load(str(TINY_WEIGHTS), "cuda", SelectionRule())
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
