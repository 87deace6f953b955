"""An image's result does not depend on what else is in the batch, and a bad image harms no neighbour."""

from __future__ import annotations

import numpy as np
import pytest

from region_features.detector import DetectionError, Detector
from region_features.detector.preprocess import prepare
from region_features.records.region_record import RegionRecord
from region_features.records.settings import SelectionRule
from tests.conftest import TINY_WEIGHTS
from tests.detector.conftest import assert_identical, golden, noise


def test_alone_together_and_reversed_are_bit_for_bit_equal(detector: Detector) -> None:
    images = [noise(1, 120, 160), noise(2, 120, 160), golden("s20x20").image, noise(3, 90, 160), noise(4, 120, 160)]
    alone = [detector.detect([image])[0] for image in images]
    for one, two in zip(alone, detector.detect(images), strict=True):
        assert_identical(one, two)
    for one, two in zip(alone, detector.detect(images[::-1])[::-1], strict=True):
        assert_identical(one, two)


def test_bad_images_fail_alone_and_keep_their_place(detector: Detector) -> None:
    good = noise(1, 120, 160)
    thread = prepare("thread", np.zeros((1, 70_000, 3), dtype=np.uint8))
    dot = prepare("dot", np.zeros((1, 1, 3), dtype=np.uint8))
    strip = prepare("strip", np.zeros((5, 2000, 3), dtype=np.uint8))
    found = detector.detect([thread, good, dot, strip, good])
    assert [type(one) for one in found] == [DetectionError, RegionRecord, DetectionError, DetectionError, RegionRecord]
    assert "too thin" in str(found[0]) and "too small" in str(found[2]) and "2000x5" in str(found[3])
    (alone,) = detector.detect([good])
    assert_identical(alone, found[1])
    assert_identical(alone, found[4])


def test_numbers_that_are_not_finite_are_an_error() -> None:
    broken = Detector.load(str(TINY_WEIGHTS), "cpu", SelectionRule())
    broken.network.roi_heads.box_predictor.cls_score.bias[7] = float("nan")
    (error,) = broken.detect([noise(1, 120, 160)])
    assert isinstance(error, DetectionError)
    assert "not finite" in str(error)


def test_no_images_give_no_records(detector: Detector) -> None:
    assert detector.detect([]) == []


def test_a_missing_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="--device cuda: expected a GPU that torch can use, found none"):
        Detector.load(str(TINY_WEIGHTS), "cuda")


def test_by_default_the_machine_chooses_the_device_and_36_regions_are_kept(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert_identical(*(each.detect([noise(1, 120, 160)])[0] for each in (Detector.load(str(TINY_WEIGHTS)), detector)))
