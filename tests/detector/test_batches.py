"""An image's record does not depend on the rest of its batch, and a bad image fails alone."""

from __future__ import annotations

import numpy as np
import pytest

from region_features.detector import DetectionError, Detector
from region_features.detector.preprocess import prepare
from region_features.records.region_record import RegionRecord
from region_features.records.settings import SelectionRule
from tests.conftest import TINY_WEIGHTS
from tests.detector.conftest import assert_identical, golden, noise


def test_a_record_is_the_same_bit_for_bit_alone_in_a_batch_and_in_reverse_order(detector: Detector) -> None:
    images = [noise(1, 120, 160), noise(2, 120, 160), golden("s20x20").image, noise(3, 90, 160), noise(4, 120, 160)]
    alone = [detector.detect([image])[0] for image in images]
    together, reverse = detector.detect(images), detector.detect(images[::-1])
    for expected, first, second in zip(alone, together, reverse[::-1], strict=True):
        assert_identical(expected, first)
        assert_identical(expected, second)


def test_bad_images_fail_alone_and_keep_their_place(detector: Detector) -> None:
    good = noise(1, 120, 160)
    thread = prepare("thread", np.zeros((1, 70_000, 3), dtype=np.uint8))
    dot = prepare("dot", np.zeros((1, 1, 3), dtype=np.uint8))
    strip = prepare("strip", np.zeros((5, 2000, 3), dtype=np.uint8))
    results = detector.detect([thread, good, dot, strip, good])
    kinds = [DetectionError, RegionRecord, DetectionError, DetectionError, RegionRecord]
    assert [type(result) for result in results] == kinds
    assert "too thin" in str(results[0]) and "too small" in str(results[2]) and "2000x5" in str(results[3])
    (alone,) = detector.detect([good])
    assert_identical(alone, results[1])
    assert_identical(alone, results[4])


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


def test_weights_alone_load_a_detector_of_36_regions(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    image = noise(1, 120, 160)
    (record,), (expected,) = Detector.load(str(TINY_WEIGHTS)).detect([image]), detector.detect([image])
    assert isinstance(record, RegionRecord) and record.num_boxes == 36
    assert_identical(record, expected)
