"""Given boxes are described unchanged; the network's own boxes get the features that it gave for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from region_features.detector import Detector
from region_features.detector.given_regions import to_resized
from region_features.detector.preprocess import prepare, resize_scale
from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import RegionRecord
from tests.detector.conftest import golden

EXACT = ("objects_id", "attrs_id", "boxes")
CLOSE = ("features", "objects_conf", "attrs_conf", "cls_prob", "attrs")


def smooth(seed: int, height: int, width: int) -> PreparedImage:
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return prepare(f"smooth{seed}", blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])


def record_of(detector: Detector, image: PreparedImage) -> RegionRecord:
    (record,) = detector.detect([image])
    assert isinstance(record, RegionRecord), record
    return record


# 34x80 and 20x165: the resized border lies on a rounding boundary of RoIPool, which scaling back alone would miss.
@pytest.mark.parametrize("size", [(120, 160), (160, 107), (34, 80), (20, 165)])
def test_the_networks_own_boxes_give_the_same_record(detector: Detector, size: tuple[int, int]) -> None:
    image = smooth(1, *size)
    record = record_of(detector, image)
    again = record_of(detector, replace(image, boxes=record.boxes.copy()))
    assert record.num_boxes == 36
    for field in EXACT:
        np.testing.assert_array_equal(getattr(again, field), getattr(record, field), err_msg=field)
    for field in CLOSE:
        np.testing.assert_allclose(getattr(again, field), getattr(record, field), rtol=0, atol=1e-5, err_msg=field)


def test_order_and_duplicates_are_kept_and_regions_are_independent(detector: Detector) -> None:
    image = smooth(2, 120, 160)
    boxes = np.array([[0, 0, 160, 120], [10.5, 20, 30, 40.25], [0, 0, 160, 120], [3, 3, 4, 4]], np.float32)
    record = record_of(detector, replace(image, boxes=boxes))
    np.testing.assert_array_equal(record.boxes, boxes)
    np.testing.assert_array_equal(record.features[0], record.features[2])
    turned = record_of(detector, replace(image, boxes=boxes[::-1].copy()))
    np.testing.assert_allclose(turned.features[::-1], record.features, rtol=0, atol=1e-5)
    assert np.abs(record.features[0] - record.features[1]).max() > 1e-3


def test_more_boxes_than_the_network_would_keep_are_all_described(detector: Detector) -> None:
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 100, (130, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.uniform(1, 20, (130, 2)).astype(np.float32)], axis=1)
    record = record_of(detector, replace(smooth(3, 120, 160), boxes=boxes))
    assert record.num_boxes == 130
    np.testing.assert_array_equal(record.objects_id, record.cls_prob[:, 1:].argmax(axis=1))
    np.testing.assert_array_equal(record.objects_conf, record.cls_prob[:, 1:].max(axis=1))
    np.testing.assert_allclose(record.cls_prob.sum(axis=1), 1, atol=1e-5)


def test_an_image_too_small_for_proposals_can_have_given_boxes(detector: Detector) -> None:
    dot = prepare("dot", np.full((16, 16, 3), 99, np.uint8))
    record = record_of(detector, replace(dot, boxes=np.array([[2, 2, 9, 9]], np.float32)))
    assert record.num_boxes == 1 and np.isfinite(record.features).all()


def test_images_with_and_without_given_boxes_share_a_batch(detector: Detector) -> None:
    image = golden("s20x20").image
    boxes = np.array([[1, 1, 9, 9]], np.float32)
    first, given, last = detector.detect([image, replace(image, boxes=boxes), image])
    assert isinstance(first, RegionRecord) and isinstance(given, RegionRecord) and isinstance(last, RegionRecord)
    assert [first.num_boxes, given.num_boxes, last.num_boxes] == [4, 1, 4]
    np.testing.assert_array_equal(first.features, last.features)


def test_whole_pixels_survive_scaling_back_and_forth_and_other_places_are_only_scaled() -> None:
    for height, width in [(34, 80), (20, 165), (427, 640), (333, 500), (612, 612)]:
        scale = resize_scale(height, width)
        whole = np.arange(1000, dtype=np.float32)[:, None].repeat(4, axis=1)
        np.testing.assert_array_equal(to_resized(whole / np.float32(scale), scale), whole)
    between = np.random.default_rng(0).uniform(0, 900, (1000, 4)).astype(np.float32)
    np.testing.assert_allclose(to_resized(between, 1.7), between * np.float32(1.7), rtol=3e-7)
    columns = np.array([2, 3, 2, 3], np.float32)
    np.testing.assert_array_equal(to_resized(np.ones((1, 4), np.float32), columns), columns[None])
