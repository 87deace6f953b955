"""The whole detector against the original Caffe program."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from region_features.detector import DetectionError, Detector
from region_features.records.region_record import RegionRecord
from tests.detector.conftest import golden, read, shared_image

PHOTOS = (
    "000456",
    "000542",
    "COCO_train2014_000000084002",
    "COCO_train2014_000000131486",
    "COCO_train2014_000000132417",
    "COCO_train2014_000000306661",
)
BOX_TOLERANCE = 0.02  # pixels
TOLERANCE = 5e-5
NUMBERS = ("features", "cls_prob", "attrs", "objects_conf", "attrs_conf")
IDS = ("objects_id", "attrs_id")


def detect(detector: Detector, name: str) -> tuple[RegionRecord, dict[str, NDArray[Any]]]:
    wanted = golden(name)
    (record,) = detector.detect([wanted.image])
    assert isinstance(record, RegionRecord), record
    return record, wanted.arrays


@pytest.mark.parametrize("name", [*PHOTOS, "exact36_0", "s20x20"])
def test_same_boxes_in_the_same_order(detector: Detector, name: str) -> None:
    record, wanted = detect(detector, name)
    assert record.num_boxes == wanted["num_boxes"]
    np.testing.assert_allclose(record.boxes, wanted["boxes"], rtol=0, atol=BOX_TOLERANCE)
    for field in IDS:
        np.testing.assert_array_equal(getattr(record, field), wanted[field], err_msg=field)
    compared = [field for field in NUMBERS if field in wanted]
    assert len(compared) == len(NUMBERS)
    for field in compared:
        np.testing.assert_allclose(getattr(record, field), wanted[field], rtol=0, atol=TOLERANCE, err_msg=field)
    assert record.img_id == str(wanted["img_id"])
    assert [record.img_h, record.img_w] == [int(wanted["img_h"]), int(wanted["img_w"])]


@pytest.mark.parametrize("name", ["s32x64", "s37x900", "s3000x4000gray"])
def test_extremes_agree_but_for_ties(detector: Detector, name: str) -> None:
    record, wanted = detect(detector, name)
    assert record.num_boxes == wanted["num_boxes"]
    distance = np.abs(wanted["boxes"][:, None] - record.boxes[None]).max(axis=2)
    rows = np.flatnonzero(distance.min(axis=1) < BOX_TOLERANCE)
    assert len(rows) >= 32
    ours = distance.argmin(axis=1)[rows]
    for field in (field for field in NUMBERS if field in wanted):
        found = getattr(record, field)[ours]
        np.testing.assert_allclose(found, wanted[field][rows], rtol=0, atol=TOLERANCE, err_msg=field)
    np.testing.assert_array_equal(record.objects_id[ours], wanted["objects_id"][rows])


@pytest.mark.parametrize(
    ("name", "reason"),
    [("s1x1", "too small: no proposal"), ("s16x16", "too small: no proposal"), ("s5x2000", "too thin")],
)
def test_images_the_original_dies_of_say_why(detector: Detector, name: str, reason: str) -> None:
    (error,) = detector.detect([read(shared_image(name))])
    assert isinstance(error, DetectionError)
    assert reason in str(error)
