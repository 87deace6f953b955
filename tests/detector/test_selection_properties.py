"""Suppression and selection equal the original's loops on boxes and scores full of ties, which hypothesis makes up."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from region_features.detector.network.nms import suppress
from region_features.detector.network.selection import choose_regions, max_confidence, select
from region_features.records.settings import SelectionRule
from tests.samples.plain_selection import plain_confidence, plain_nms, plain_select

REPEATABLE = settings(max_examples=100, deadline=None, derandomize=True)
# Few numbers, so that boxes coincide, overlaps lie on thresholds and scores are equal; 0.3 and 0.2 are no float32.
CORNERS = st.sampled_from([0, 1, 2.5, 3, 7, 9, 10, 13, 19, 20, 39.5])
SCORES = st.sampled_from([0, 0.05, 0.1, float(np.float32(0.2)), 0.25, 0.5, 0.9, 1])
THRESHOLDS = st.sampled_from([0.3, 0.5, 0.7, 0.1, 1.0])


@st.composite
def boxes_of_an_image(draw: st.DrawFn, least: int = 0, most: int = 24) -> NDArray[np.float32]:
    count = draw(st.integers(least, most))
    corners = draw(arrays(np.float32, (count, 2, 2), elements=CORNERS, fill=st.nothing()))
    return np.sort(corners, axis=1).reshape(count, 4)


@st.composite
def images(draw: st.DrawFn) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Boxes and scores of up to four images, of as many classes each."""
    classes = draw(st.integers(1, 4))
    boxes = [draw(boxes_of_an_image(least=1)) for _ in range(draw(st.integers(1, 4)))]
    scores = [draw(arrays(np.float32, (len(rows), classes), elements=SCORES, fill=st.nothing())) for rows in boxes]
    return boxes, scores


RULES = st.tuples(st.integers(1, 12), st.integers(0, 8), st.sampled_from([0.0, 0.05, 0.2, 0.25, 0.95])).map(
    lambda drawn: SelectionRule(drawn[0], drawn[0] + drawn[1], drawn[2])
)


@REPEATABLE
@given(data=st.data(), threshold=THRESHOLDS, limit=st.integers(1, 30), block=st.sampled_from([1, 3, 8, None]))
def test_suppression_is_that_of_the_loop(data: st.DataObject, threshold: float, limit: int, block: int | None) -> None:
    several = [data.draw(boxes_of_an_image(most=12)) for _ in range(data.draw(st.integers(1, 3)))]
    width = max(len(boxes) for boxes in several)
    padded, valid = np.zeros((len(several), width, 4), np.float32), np.zeros((len(several), width), bool)
    for row, boxes in enumerate(several):
        padded[row, : len(boxes)] = boxes
        valid[row, : len(boxes)] = data.draw(arrays(bool, len(boxes)))
    kept = suppress(torch.from_numpy(padded), torch.from_numpy(valid), threshold, limit, block).numpy()
    for row, boxes in enumerate(several):
        taking_part = np.flatnonzero(valid[row])
        expected = taking_part[plain_nms(boxes[valid[row, : len(boxes)]], threshold)][:limit]
        assert np.flatnonzero(kept[row]).tolist() == expected.tolist()


@REPEATABLE
@given(drawn=images(), floor=SCORES)
def test_confidence_above_a_floor_is_that_of_the_loop(
    drawn: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]], floor: float
) -> None:
    for boxes, scores in zip(*drawn, strict=True):
        found = max_confidence(
            torch.from_numpy(boxes)[None], torch.from_numpy(scores)[None], 0.3, torch.tensor([floor])
        )[0].numpy()
        expected = plain_confidence(boxes, scores)
        np.testing.assert_array_equal(found, np.where(expected > np.float32(floor), expected, 0))


@REPEATABLE
@given(confidence=arrays(np.float32, st.integers(0, 20), elements=SCORES), rule=RULES)
def test_the_rule_is_that_of_its_words(confidence: NDArray[np.float32], rule: SelectionRule) -> None:
    assert select(confidence, rule).tolist() == plain_select(confidence, rule.minimum, rule.maximum, rule.threshold)


@REPEATABLE
@given(drawn=images(), rule=RULES)
def test_the_chosen_regions_are_those_of_the_loops(
    drawn: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]], rule: SelectionRule
) -> None:
    boxes, scores = drawn
    chosen = choose_regions(list(map(torch.from_numpy, boxes)), list(map(torch.from_numpy, scores)), 0.3, rule)
    for indices, image_boxes, image_scores in zip(chosen, boxes, scores, strict=True):
        confidence = plain_confidence(image_boxes, image_scores)
        assert indices.tolist() == plain_select(confidence, rule.minimum, rule.maximum, rule.threshold)
