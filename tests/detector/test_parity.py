"""The whole detector against the original Caffe program."""

from __future__ import annotations

import numpy as np
import pytest

from region_features.detector import DetectionError, Detector
from region_features.records.region_record import RegionRecord
from tests.detector.conftest import BOX_TOLERANCE, TOLERANCE, Golden, golden, image_file, read
from tests.detector.make_goldens import PHOTOS

NUMBERS = ("features", "cls_prob", "attrs", "objects_conf", "attrs_conf")
IDS = ("objects_id", "attrs_id")


def detect(detector: Detector, original: Golden) -> RegionRecord:
    (record,) = detector.detect([original.image])
    assert isinstance(record, RegionRecord), record
    return record


@pytest.mark.parametrize("name", ["s20x20", "s32x64", *PHOTOS])
def test_same_boxes_in_the_same_order(detector: Detector, name: str) -> None:
    original = golden(name)
    record, arrays = detect(detector, original), original.arrays
    assert record.num_boxes == arrays["num_boxes"] == (4 if name == "s20x20" else 36)
    np.testing.assert_allclose(record.boxes, arrays["boxes"], rtol=0, atol=BOX_TOLERANCE)
    for field in IDS:
        np.testing.assert_array_equal(getattr(record, field), arrays[field], err_msg=field)
    for field in NUMBERS:
        np.testing.assert_allclose(getattr(record, field), arrays[field], rtol=0, atol=TOLERANCE, err_msg=field)
    assert record.img_id == str(arrays["img_id"])
    assert [record.img_h, record.img_w] == [int(arrays["img_h"]), int(arrays["img_w"])]
    assert original.image.scale == arrays["im_scale"]


@pytest.mark.parametrize("name", ["s37x900", "s3000x4000gray"])
def test_only_regions_of_equal_scores_are_chosen_differently(detector: Detector, name: str) -> None:
    """Flat areas give regions whose scores are equal but for rounding, and rounding then decides which one stays."""
    original = golden(name)
    record, arrays = detect(detector, original), original.arrays
    assert record.num_boxes == arrays["num_boxes"] == 36
    distance = np.abs(arrays["boxes"][:, None] - record.boxes[None]).max(axis=2)
    rows = np.flatnonzero(distance.min(axis=1) < BOX_TOLERANCE)
    ours = distance.argmin(axis=1)[rows]
    assert len(rows) >= 34 and (np.diff(ours) > 0).all()
    for field in IDS:
        np.testing.assert_array_equal(getattr(record, field)[ours], arrays[field][rows], err_msg=field)
    for field in ("features", "objects_conf", "attrs_conf"):
        values = getattr(record, field)[ours]
        np.testing.assert_allclose(values, arrays[field][rows], rtol=0, atol=TOLERANCE, err_msg=field)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("s1x1", "too small: no proposal"), ("s16x16", "too small: no proposal"), ("s5x2000", "too thin")],
)
def test_an_image_on_which_the_original_crashes_is_an_error_with_a_reason(
    detector: Detector, name: str, reason: str
) -> None:
    (error,) = detector.detect([read(image_file(name))])
    assert isinstance(error, DetectionError)
    assert reason in str(error)
