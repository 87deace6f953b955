"""Comparison of records: matching, edges, and verdicts on records that are changed by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from region_features.comparison.boxes import distances, mutual_best, overlaps
from region_features.comparison.image import BLUE, WARM, compare_records
from region_features.comparison.resize import LAST_PIXEL, count_fits, edges_of, expected_edges, scale_of
from region_features.comparison.totals import Totals
from region_features.comparison.verdict import Verdict, judge
from region_features.names import visual_genome
from region_features.records.region_record import RegionRecord
from tests.samples.records import make_record

Change = Callable[[RegionRecord], RegionRecord]
RED = WARM[0]


def some_records(count: int = 4) -> list[RegionRecord]:
    """Records whose boxes overlap by less than two proposals of one run do."""
    corners = np.array([[x, y, x + 90, y + 70] for x in range(0, 500, 100) for y in range(0, 320, 80)], np.float32)
    return [replace(make_record(f"photo_{n}", boxes=len(corners), width=32), boxes=corners + n) for n in range(count)]


def verdict(records: Sequence[RegionRecord], change: Change) -> Verdict:
    totals = Totals()
    for record in records:
        totals.add(record, change(record))
    return judge(totals)


def noisy(share: float) -> Change:
    """Add to each feature this share of the features' deviation."""

    def add(record: RegionRecord) -> RegionRecord:
        noise = np.random.default_rng(len(record.img_id)).standard_normal(record.features.shape, np.float32)
        return replace(record, features=record.features + np.float32(share) * noise)

    return add


def rows(record: RegionRecord, keep: slice) -> RegionRecord:
    arrays: dict[str, Any] = {
        name: value[keep] for name, value in vars(record).items() if isinstance(value, np.ndarray)
    }
    return replace(record, **arrays)


def test_overlaps_count_both_ends_of_a_box() -> None:
    boxes = np.array([[0, 0, 9, 9]], np.float32)
    others = np.array([[0, 0, 9, 9], [5, 0, 14, 9], [20, 20, 29, 29]], np.float32)
    np.testing.assert_allclose(overlaps(boxes, others), [[1, 50 / 150, 0]])


def test_distances_are_those_of_every_two_rows() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random((4, 9)), rng.random((3, 9))
    found = distances(one @ other.T, (one * one).sum(1), (other * other).sum(1))
    np.testing.assert_allclose(found, np.linalg.norm(one[:, None] - other[None], axis=2))


def test_pairs_are_each_others_best() -> None:
    scores = np.array([[0.9, 0.8], [0.7, 0.95], [0.2, 0.1]])
    assert [side.tolist() for side in mutual_best(scores)] == [[0, 1], [0, 1]]
    assert [len(side) for side in mutual_best(np.zeros((0, 3)))] == [0, 0]


def test_a_pair_that_only_one_side_prefers_is_none() -> None:
    assert [side.tolist() for side in mutual_best(np.array([[0.9, 0.8]]))] == [[0], [0]]


@pytest.mark.parametrize(("height", "width", "scale"), [(480, 640, 1.25), (375, 1000, 1.0), (600, 600, 1.0)])
def test_the_scale_is_that_of_the_original(height: int, width: int, scale: float) -> None:
    assert scale_of(height, width, 600, 1000) == scale


def test_edges_tell_the_size_of_the_resized_image() -> None:
    record = replace(make_record("a", boxes=2), boxes=np.array([[0, 0, 639.2, 100], [5, 5, 50, 479.2]], np.float32))
    assert edges_of(record) == pytest.approx((639.2, 479.2))
    fits = count_fits(record)
    assert fits["resized to 600/1000"] == 2
    assert fits["resized to 800/1333"] == fits[LAST_PIXEL] == 0
    assert expected_edges(480, 640)["resized to 800/1333"] == pytest.approx((639.6, 479.4))


def test_boxes_away_from_the_edges_tell_nothing() -> None:
    record = replace(make_record("a", boxes=1), boxes=np.array([[0, 0, 600, 400]], np.float32))
    assert np.isnan(edges_of(record)).all()
    assert set(count_fits(record).values()) == {0}


def test_an_image_of_one_box_or_none_is_compared() -> None:
    one = make_record("a", boxes=1)
    assert compare_records(one, one).in_order
    none = make_record("a", boxes=0)
    assert compare_records(none, one).same == compare_records(one, none).same == 0
    assert compare_records(none, none).in_order


@pytest.mark.parametrize(
    ("change", "text", "reason"),
    [
        (noisy(0), "same network", "100.0% of the images have the same boxes in the same order"),
        (noisy(1e-6), "same network", "100.0% of the boxes that both could have are the same"),
        (noisy(1e-2), "same network, other precision", "features at the same boxes differ by 7.6e-03"),
        (lambda record: rows(record, slice(None, None, -1)), "same network", "0.0% of the images have the same boxes"),
        (
            lambda record: rows(record, slice(5)),
            "other number of boxes or threshold",
            "20.0 and 5.0 boxes an image; 100.0% of the images differ in it",
        ),
        (
            lambda record: replace(record, boxes=record.boxes + np.array([9, -7, 12, 9], np.float32)),
            "boxes regressed",
            "100.0% of these are at another place",
        ),
        (
            lambda record: replace(record, boxes=record.boxes + np.float32(0.3) * (np.arange(20) % 4 > 0)[:, None]),
            "same network, other precision",
            "moved by 0.30 pixels (median)",
        ),
        (
            lambda record: replace(record, features=np.roll(record.features, 7, axis=1)),
            "other network",
            "unrelated ones have 0",
        ),
        (
            lambda record: replace(record, features=record.features[:, :16]),
            "other network",
            "features of width 32 and 16",
        ),
    ],
)
def test_the_verdict_names_the_change(change: Change, text: str, reason: str) -> None:
    found = verdict(some_records(), change)
    assert found.text == text
    assert reason in "\n".join(found.reasons)


def test_same_boxes_with_other_features_were_given() -> None:
    reasons = verdict(some_records(), noisy(0.5)).reasons
    assert "the boxes are the same: both networks were given them, or only their heads differ" in reasons


def test_the_colours_are_those_of_visual_genomes_attributes() -> None:
    names = [aliases[0] for aliases in visual_genome().attributes]
    assert all("blue" in names[number] for number in BLUE)
    assert [names[number] for number in WARM] == [
        *("red", "yellow", "orange", "brown", "maroon", "gold", "tan", "golden brown", "golden"),
    ]


def test_blue_regions_that_turn_red_tell_of_swapped_channels() -> None:
    def coloured(number: int) -> Change:
        return lambda record: replace(record, attrs_id=np.full(record.num_boxes, number))

    records = [coloured(BLUE[0])(record) for record in some_records()]
    swapped = verdict(records, lambda record: coloured(RED)(noisy(0.5)(record)))
    assert swapped.text == "RGB and BGR swapped"
    assert "100.0% of 80 blue, red, orange, yellow or brown regions turned" in swapped.reasons
    assert verdict(records, noisy(0.5)).text == "other resize or means"


def test_without_a_box_there_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="expected images with boxes on both sides, found none"):
        verdict([make_record("a", boxes=0)], noisy(0))


def test_without_features_there_is_no_verdict() -> None:
    records = [replace(record, features=record.features[:, :0]) for record in some_records()]
    with pytest.raises(ValueError, match="expected features, found none on either side"):
        verdict(records, noisy(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda record: replace(record, img_h=0),
            "image photo_0: expected an image of at least 1 x 1 pixels, got 640 x 0",
        ),
        (lambda record: replace(record, features=record.features * np.float32(np.nan)), "expected finite features"),
        (lambda record: replace(record, boxes=record.boxes + np.float32(np.inf)), "expected finite boxes"),
    ],
)
def test_a_record_that_cannot_be_measured_is_refused(change: Change, message: str) -> None:
    (record,) = some_records(1)
    totals = Totals()
    with pytest.raises(ValueError, match=message):
        totals.add(record, change(record))
    assert len(totals) == 0


def test_totals_hold_numbers_only() -> None:
    totals = Totals()
    for record in some_records(3):
        totals.add(record, record)
    assert len(totals) == 3 and totals.comparable == 60
    assert totals.unchanged.all() and not totals.unchanged_by_content
    assert not [name for name, value in vars(totals).items() if isinstance(value, RegionRecord)]
