"""Anchors, decoding, suppression and selection against plain loops and the original's own numbers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.detector.conftest import golden
from transforms.detector.anchors import cell_anchors, decode, grid_anchors, large_enough
from transforms.detector.nms import float32_threshold, kept_by_class, suppress
from transforms.detector.selection import max_confidence, select
from transforms.records.prepared_image import BoxSettings

THIRTY_SIX = BoxSettings(36, 36, 0.2)


def plain_nms(boxes: NDArray[np.float32], threshold: float) -> list[int]:
    """The original's loop, number by number, on boxes that are sorted by score."""
    one = np.float32(1)
    kept: list[int] = []
    for i, box in enumerate(boxes):
        for j in kept:
            other = boxes[j]
            width = max(np.float32(0), min(box[2], other[2]) - max(box[0], other[0]) + one)
            height = max(np.float32(0), min(box[3], other[3]) - max(box[1], other[1]) + one)
            inter = width * height
            area = (box[2] - box[0] + one) * (box[3] - box[1] + one)
            other_area = (other[2] - other[0] + one) * (other[3] - other[1] + one)
            if float(inter / (other_area + area - inter)) >= threshold:
                break
        else:
            kept.append(i)
    return kept


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


def test_grid_goes_by_row_column_anchor() -> None:
    anchors = grid_anchors(2, 3).reshape(2, 3, 12, 4)
    np.testing.assert_array_equal(anchors[1, 2] - anchors[0, 0], np.tile([32, 16, 32, 16], (12, 1)))


def test_decode_moves_resizes_and_clips() -> None:
    anchors = np.array([[10, 20, 29, 59], [10, 20, 29, 59], [-50, -50, 500, 500], [0, 0, 9, 9]], dtype=np.float32)
    deltas = np.array([[0, 0, 0, 0], [0.5, -0.25, np.log(2), 0], [0, 0, 0, 0], [0, 0, 1e4, 1e4]], dtype=np.float32)
    boxes = decode(anchors, deltas, height=100, width=200)
    wanted = [[10, 20, 30, 60], [10, 10, 50, 50], [0, 0, 199, 99], [0, 0, 199, 99]]
    np.testing.assert_allclose(boxes, wanted, atol=1e-5)


def test_size_limit_counts_both_ends() -> None:
    boxes = np.array([[0, 0, 15, 15], [0, 0, 14.5, 15], [0, 0, 15, 14.5]], dtype=np.float32)
    assert large_enough(boxes, 16).tolist() == [True, False, False]


@pytest.mark.parametrize("threshold", [0.3, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_suppress_equals_the_plain_loop(seed: int, threshold: float) -> None:
    boxes = random_boxes(seed, 300)
    wanted = plain_nms(boxes, threshold)
    assert 5 < len(wanted) < 300
    for block in (1, 7, 128):
        assert suppress(boxes, threshold, 300, block).tolist() == wanted
        assert suppress(boxes, threshold, 5, block).tolist() == wanted[:5]


def test_suppress_takes_no_boxes() -> None:
    assert suppress(np.empty((0, 4), dtype=np.float32), 0.7, 300).tolist() == []


@pytest.mark.parametrize("value", [0.3, 0.7, 0.5, 0.1, 1 / 3])
def test_threshold_compares_as_in_double(value: float) -> None:
    least = float32_threshold(value)
    around = [np.nextafter(least, np.float32(0)), least, np.nextafter(least, np.float32(2))]
    assert [bool(x >= least) for x in around] == [float(x) >= value for x in around]


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
def test_classes_walked_together_equal_each_alone(count: int) -> None:
    boxes = random_boxes(count, count)
    scores = np.random.default_rng(count).random((count, 20)).astype(np.float32)
    kept = kept_by_class(boxes, scores, 0.3)
    for number in range(20):
        order = np.argsort(-scores[:, number])
        wanted = np.zeros(count, dtype=bool)
        wanted[order[plain_nms(boxes[order], 0.3)]] = True
        np.testing.assert_array_equal(kept[number], wanted)


def test_confidence_is_the_best_score_a_region_survives_with() -> None:
    # The first two are the same box; the second loses class 0 to the first and wins class 1.
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 9], [50, 50, 59, 59]], dtype=np.float32)
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.25]], dtype=np.float32)
    found = max_confidence(boxes, scores, 0.3)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.array([0.9, 0.2, 0.3], dtype=np.float32).astype(np.float64))


@pytest.mark.parametrize("name", ["s20x20", "exact36_0", "s32x64", "000456", "000542"])
def test_selection_gives_the_originals_regions_from_its_confidences(name: str) -> None:
    arrays = golden(name).arrays
    confidence = arrays["max_conf"]
    assert (confidence >= 0.2).sum() == arrays["n_over_thresh"]
    np.testing.assert_array_equal(confidence[select(confidence, THIRTY_SIX)], confidence[arrays["keep_boxes"]])
    if name in {"exact36_0", "000456", "000542"}:  # no equal confidences in photos
        np.testing.assert_array_equal(select(confidence, THIRTY_SIX), arrays["keep_boxes"])
    assert str(arrays["branch"]) == {"exact36_0": "exact", "000456": "more"}.get(name, "less")


def test_selection_rule_for_a_range() -> None:
    confidence = np.array([0.1, 0.9, 0.2, 0.5, 0.15])
    assert select(confidence, BoxSettings(1, 3, 0.2)).tolist() == [1, 2, 3]  # within: proposal order
    assert select(confidence, BoxSettings(4, 5, 0.2)).tolist() == [1, 3, 2, 4]  # too few: the best four
    assert select(confidence, BoxSettings(1, 2, 0.2)).tolist() == [1, 3]  # too many: the best two
    assert select(confidence, BoxSettings(9, 9, 0.2)).tolist() == [1, 3, 2, 4, 0]  # fewer than the minimum: all
