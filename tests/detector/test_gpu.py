"""What only a machine with a GPU can show: it gives the CPU's records."""

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
# Of the mean feature, of the median region: a box that moves by a fraction of a pixel may fall into other cells, and
# lie further apart.
DEVIATION = {"float32": 1e-4, "tf32": 5e-3, "bfloat16": 1e-2, "float16": 5e-3}


def records(detector: Detector, images: Sequence[PreparedImage]) -> list[RegionRecord]:
    found = detector.detect(images)
    assert len(found) == len(images) and all(isinstance(record, RegionRecord) for record in found), found
    return [record for record in found if isinstance(record, RegionRecord)]


@pytest.fixture(scope="module")
def images() -> list[PreparedImage]:
    return [golden("s20x20").image, *(noise(seed, 240, 320) for seed in range(5)), noise(9, 320, 240)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_gpu_gives_the_cpus_records(detector: Detector, images: list[PreparedImage], precision: str) -> None:
    on_gpu = Detector.load(str(TINY_WEIGHTS), "cuda", SelectionRule(), precision)
    found = records(on_gpu, [pinned(image) for image in images])
    near, apart = 0, []
    reference = records(detector, images)
    for record, wanted in zip(found, reference, strict=True):
        assert record.num_boxes == wanted.num_boxes
        distance = np.abs(wanted.boxes[:, None] - record.boxes[None]).max(axis=2)
        rows = np.flatnonzero(distance.min(axis=1) < 1)
        near += len(rows)
        difference = np.abs(record.features[distance.argmin(axis=1)[rows]] - wanted.features[rows])
        apart.append(difference.mean(axis=1) / np.abs(wanted.features).mean())
    # Of equal scores in noise rounding decides.
    assert near >= (0.9 if precision == "float32" else 0.75) * sum(wanted.num_boxes for wanted in reference)
    assert np.median(np.concatenate(apart)) <= DEVIATION[precision]


def test_a_batch_gives_the_same_bytes_twice(images: list[PreparedImage]) -> None:
    on_gpu = Detector.load(str(TINY_WEIGHTS), "cuda", SelectionRule())
    for one, two in zip(records(on_gpu, images), records(on_gpu, images), strict=True):
        np.testing.assert_array_equal(one.features, two.features)
        np.testing.assert_array_equal(one.cls_prob, two.cls_prob)


def test_nothing_waits_for_the_gpu_inside_the_head(images: list[PreparedImage]) -> None:
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
