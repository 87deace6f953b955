"""Anchors, decoding, suppression and selection against plain loops and the original's own numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from region_features.detector.network.anchors import cell_anchors, decode, grid_anchors, large_enough
from region_features.detector.network.nms import float32_threshold, suppress
from region_features.detector.network.selection import choose_regions, max_confidence, select
from region_features.records.settings import SelectionRule
from tests.detector.conftest import COMMITTED, read_arrays
from tests.detector.make_goldens import IMAGES, PHOTOS
from tests.samples.plain_selection import plain_confidence, plain_nms

THIRTY_SIX = SelectionRule(36, 36, 0.2)


def random_boxes(seed: int, count: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 200, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0, 120, (count, 2))], axis=1).astype(np.float32)


def test_cell_anchors_are_the_originals() -> None:
    anchors = cell_anchors()
    assert anchors.shape == (12, 4)
    assert anchors[0].tolist() == [-38, -16, 53, 31]
    assert anchors[4].tolist() == [-24, -24, 39, 39]
    sizes = anchors[:, 2:] - anchors[:, :2] + 1
    assert sizes.tolist() == [[w * s, h * s] for w, h in ((23, 12), (16, 16), (11, 22)) for s in (4, 8, 16, 32)]


def test_the_anchors_of_a_map_are_ordered_by_row_column_and_cell_anchor() -> None:
    anchors = grid_anchors(2, 3, torch.device("cpu")).reshape(2, 3, 12, 4)
    np.testing.assert_array_equal(anchors[1, 2] - anchors[0, 0], np.tile([32, 16, 32, 16], (12, 1)))


def test_decode_moves_resizes_and_clips() -> None:
    anchors = np.array([[10, 20, 29, 59], [10, 20, 29, 59], [-50, -50, 500, 500], [0, 0, 9, 9]], dtype=np.float32)
    deltas = np.array([[0, 0, 0, 0], [0.5, -0.25, np.log(2), 0], [0, 0, 0, 0], [0, 0, 1e4, 1e4]], dtype=np.float32)
    boxes = decode(torch.from_numpy(anchors), torch.from_numpy(deltas)[None], height=100, width=200)[0]
    expected = [[10, 20, 30, 60], [10, 10, 50, 50], [0, 0, 199, 99], [0, 0, 199, 99]]
    np.testing.assert_allclose(boxes, expected, atol=1e-5)


def test_the_size_limit_counts_both_ends_of_a_box() -> None:
    boxes = np.array([[0, 0, 15, 15], [0, 0, 14.5, 15], [0, 0, 15, 14.5]], dtype=np.float32)
    assert large_enough(torch.from_numpy(boxes)[None], torch.tensor([16.0])).tolist() == [[True, False, False]]


def rows_kept(boxes: NDArray[np.float32], valid: NDArray[np.bool_], *rule: Any) -> list[int]:
    kept = suppress(torch.from_numpy(boxes)[None], torch.from_numpy(valid)[None], *rule)
    return kept[0].nonzero()[:, 0].tolist()


@pytest.mark.parametrize("threshold", [0.3, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_suppression_equals_the_plain_loop(seed: int, threshold: float) -> None:
    boxes, valid = random_boxes(seed, 300), np.ones(300, dtype=bool)
    expected = plain_nms(boxes, threshold)
    assert 5 < len(expected) < 300
    for block in (1, 7, 128, 1024, None):
        assert rows_kept(boxes, valid, threshold, 300, block) == expected
        assert rows_kept(boxes, valid, threshold, 5, block) == expected[:5]


def test_suppression_ignores_boxes_that_are_not_valid() -> None:
    boxes = random_boxes(1, 200)
    valid = np.random.default_rng(1).random(200) < 0.5
    expected = np.flatnonzero(valid)[plain_nms(boxes[valid], 0.3)]
    assert rows_kept(boxes, valid, 0.3, 300, 16) == expected.tolist()


def test_images_of_a_batch_are_suppressed_independently() -> None:
    boxes = np.stack([random_boxes(seed, 150) * size for seed, size in ((0, 1), (1, 3), (2, np.float32(0.2)))])
    kept = suppress(torch.from_numpy(boxes), torch.ones(3, 150, dtype=torch.bool), 0.3, 40, 32)
    for row, image_boxes in zip(kept, boxes, strict=True):
        assert row.nonzero()[:, 0].tolist() == plain_nms(image_boxes, 0.3)[:40]


def test_in_a_chain_of_overlapping_boxes_every_second_one_is_kept() -> None:
    # Each kept box removes the next one: the result of the last depends on the first.
    left = np.arange(100, dtype=np.float32) * 4
    boxes = np.stack([left, np.zeros_like(left), left + 9, np.full_like(left, 9)], axis=1)
    assert rows_kept(boxes, np.ones(100, dtype=bool), 0.3, 300, 128) == list(range(0, 100, 2))


def test_suppression_of_no_boxes_keeps_none() -> None:
    assert rows_kept(np.empty((0, 4), dtype=np.float32), np.empty(0, dtype=bool), 0.7, 300) == []


@pytest.mark.parametrize("value", [0.3, 0.7, 0.5, 0.1, 1 / 3])
def test_comparing_with_the_float32_threshold_equals_comparing_in_double(value: float) -> None:
    least = float32_threshold(value)
    middle = np.float32(least)
    around = [np.nextafter(middle, np.float32(0)), middle, np.nextafter(middle, np.float32(2))]
    assert (torch.from_numpy(np.array(around)) >= least).tolist() == [float(x) >= value for x in around]


def confidence_of(boxes: NDArray[np.float32], scores: NDArray[np.float32], floor: float) -> NDArray[np.float32]:
    floors = torch.tensor([floor])
    return max_confidence(torch.from_numpy(boxes)[None], torch.from_numpy(scores)[None], 0.3, floors)[0].numpy()


@pytest.mark.parametrize("count", [1, 2, 64, 130])
def test_confidence_equals_the_loop_over_classes_above_every_floor(count: int) -> None:
    boxes = random_boxes(count, count)
    scores = np.random.default_rng(count).random((count, 20)).astype(np.float32)
    expected = plain_confidence(boxes, scores)
    np.testing.assert_array_equal(confidence_of(boxes, scores, 0), expected)
    for floor in (0.5, 0.9, 1.0):
        np.testing.assert_array_equal(confidence_of(boxes, scores, floor), np.where(expected > floor, expected, 0))


def test_of_equal_scores_the_later_region_wins() -> None:
    boxes = np.tile(np.array([[0, 0, 9, 9]], dtype=np.float32), (3, 1))
    assert confidence_of(boxes, np.full((3, 2), 0.5, dtype=np.float32), 0).tolist() == [0, 0, 0.5]


def test_confidence_is_the_best_score_with_which_a_region_survives() -> None:
    # The first two are the same box; the second loses class 0 to the first and wins class 1.
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 9], [50, 50, 59, 59]], dtype=np.float32)
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.25]], dtype=np.float32)
    np.testing.assert_array_equal(confidence_of(boxes, scores, 0), np.array([0.9, 0.2, 0.3], dtype=np.float32))


@pytest.mark.parametrize(
    "selection", [SelectionRule(5, 5), SelectionRule(3, 20), SelectionRule(36, 36), SelectionRule(2, 9, 0.0)]
)
@pytest.mark.parametrize("sharpness", [0.0, 3.0, 12.0])
def test_the_best_scores_choose_the_same_regions_as_all_scores(selection: SelectionRule, sharpness: float) -> None:
    rng = np.random.default_rng(int(sharpness))
    counts = (90, 4, 30, 61)
    # Spread over the plane; then in one heap, where few survive and the best scores alone do not decide.
    boxes = [random_boxes(n, n) for n in counts] + [random_boxes(n, n) / 40 for n in counts]
    exponentials = [np.exp(rng.standard_normal((len(rows), 25)).astype(np.float32) * sharpness) for rows in boxes]
    scores = [rows / rows.sum(axis=1, keepdims=True) for rows in exponentials]
    chosen = choose_regions(list(map(torch.from_numpy, boxes)), list(map(torch.from_numpy, scores)), 0.3, selection)
    assert len(chosen) == len(boxes)
    for indices, image_boxes, image_scores in zip(chosen, boxes, scores, strict=True):
        expected = select(plain_confidence(image_boxes, image_scores), selection)
        np.testing.assert_array_equal(indices, expected)


def test_no_images_choose_no_regions() -> None:
    assert choose_regions([], [], 0.3, THIRTY_SIX) == []


@pytest.mark.parametrize("name", [*(Path(image).stem for image in IMAGES), *PHOTOS])
def test_the_originals_confidences_select_the_originals_regions(name: str) -> None:
    arrays = read_arrays(COMMITTED / f"{name}.npz")
    confidence = arrays["max_conf"]
    over = (confidence >= 0.2).sum()
    assert over == arrays["n_over_thresh"]
    assert arrays["branch"] == ("exact" if over == 36 else "less" if over < 36 else "more")
    np.testing.assert_array_equal(select(confidence, THIRTY_SIX), arrays["keep_boxes"])


def test_a_rule_with_a_range_keeps_all_over_the_threshold_within_it() -> None:
    confidence = np.array([0.1, 0.9, 0.2, 0.5, 0.15])
    assert select(confidence, SelectionRule(1, 3, 0.2)).tolist() == [1, 2, 3]  # within: proposal order
    assert select(confidence, SelectionRule(4, 5, 0.2)).tolist() == [1, 3, 2, 4]  # too few: the best four
    assert select(confidence, SelectionRule(1, 2, 0.2)).tolist() == [1, 3]  # too many: the best two
    assert select(confidence, SelectionRule(9, 9, 0.2)).tolist() == [1, 3, 2, 4, 0]  # fewer than the minimum: all
