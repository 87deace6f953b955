"""One network, one thing done to it or to its pictures: the verdict names what was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from region_features.comparison.totals import Totals
from region_features.comparison.trials import Trial, Way, errors_of, settle
from region_features.comparison.verdict import Verdict, judge
from region_features.detector import Detector
from region_features.detector.preprocess import PIXEL_MEANS, prepare
from region_features.records.prepared_image import PreparedImage
from region_features.records.settings import SelectionRule
from tests.samples.detector_variants import (
    Pixels,
    Records,
    detector,
    pictures,
    prepare_with,
    records,
    regress,
    shuffle,
    size_major_anchors,
    swapped,
    to_bfloat16,
)


@dataclass(frozen=True)
class Side:
    """A network, its pictures and its records."""

    network: Detector
    images: Mapping[str, Pixels]
    records: Records

    def rescaled(self) -> Records:
        """Return the records with boxes in pixels of the resized pictures."""
        scales = {name: np.float32(prepare(name, image).scale) for name, image in self.images.items()}
        return {name: replace(record, boxes=record.boxes * scales[name]) for name, record in self.records.items()}

    def pooled_at_regressed_boxes(self) -> Records:
        """Return the records of the regressed boxes, with features of these boxes."""

        def prepare_boxes(name: str, image: Pixels) -> PreparedImage:
            return replace(prepare(name, image), boxes=regress(self.records[name]).boxes)

        return records(self.network, self.images, prepare_boxes)

    def with_anchors_of_other_order(self) -> Records:
        """Return the records of the same network whose anchors are size-major."""
        with size_major_anchors():
            return records(self.network, self.images)


@pytest.fixture(scope="module")
def side() -> Side:
    network, images = detector(), pictures()
    return Side(network, images, records(network, images))


def verdict(one: Records, other: Records) -> Verdict:
    totals = Totals()
    for name in sorted(one.keys() & other.keys()):
        totals.add(one[name], other[name])
    return judge(totals)


CASES: dict[str, tuple[Callable[[Side], Records], str, str]] = {
    "the same": (
        lambda side: records(side.network, side.images),
        "same network",
        "100.0% of the images have the same boxes in the same order",
    ),
    "weights rounded to bfloat16": (
        lambda side: records(detector(to_bfloat16), side.images),
        "same network, other precision",
        "of the boxes that both could have are the same",
    ),
    "10 to 100 boxes": (
        lambda side: records(detector(rule=SelectionRule(10, 100, 0.2)), side.images),
        "other number of boxes or threshold",
        "100.0% of the images differ in it",
    ),
    "regressed": (
        lambda side: {name: regress(record) for name, record in side.records.items()},
        "boxes regressed",
        "100.0% of these are at another place",
    ),
    "pooled at regressed boxes": (
        lambda side: side.pooled_at_regressed_boxes(),
        "boxes regressed, or other proposals (anchor order, RPN)",
        "features are those of the moved boxes",
    ),
    "boxes of the resized picture": (
        lambda side: side.rescaled(),
        "boxes at the resized scale",
        "in 100% of these that is the scale of 600/1000",
    ),
    "boxes from 0 to 1": (
        lambda side: {
            name: replace(record, boxes=(record.boxes / np.array([record.img_w, record.img_h] * 2)).astype(np.float32))
            for name, record in side.records.items()
        },
        "boxes in other units",
        "in 100% of the images B's boxes are A's times 0.00",
    ),
    "RGB": (
        lambda side: records(side.network, side.images, swapped),
        "RGB and BGR swapped",
        "2 of 7 images did not change at all, others of their size did",
    ),
    "800/1333": (
        lambda side: records(side.network, side.images, prepare_with(short=800, long=1333)),
        "other resize or means",
        "A: resized to 600/1000 (fits 100% of 13 edges); B: resized to 800/1333 (fits 100% of 13 edges)",
    ),
    "no means": (
        lambda side: records(side.network, side.images, prepare_with((0.0, 0.0, 0.0))),
        "RGB and BGR swapped, or other resize or means, or other network trained from the same one",
        "the files alone do not tell which; --images and --weights do",
    ),
    "anchor order": (
        lambda side: side.with_anchors_of_other_order(),
        "other proposals (anchor order, RPN)",
        "features at the same boxes differ by 0.0e+00",
    ),
    "other weights": (
        lambda side: records(detector(shuffle), side.images),
        "other network",
        "unrelated ones have 0",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_names_what_was_done(side: Side, case: str) -> None:
    make, text, reason = CASES[case]
    found = verdict(side.records, make(side))
    assert found.text == text
    assert reason in "\n".join(found.reasons)


def test_without_grey_pictures_a_swap_is_one_of_the_causes_that_fit(side: Side) -> None:
    coloured = dict(list(side.images.items())[:5])
    found = verdict(side.records, records(side.network, coloured, swapped))
    assert found.causes[0] == "RGB and BGR swapped"
    assert len(found.causes) > 1


@pytest.mark.parametrize(
    ("channels", "means", "size", "text"),
    [
        ("BGR", PIXEL_MEANS, (600, 1000), "same network"),
        ("RGB", PIXEL_MEANS[::-1], (600, 1000), "RGB and BGR swapped"),
        ("BGR", (103.53, 116.28, 123.675), (600, 1000), "other resize or means"),
        ("BGR", (0.0, 0.0, 0.0), (600, 1000), "other resize or means"),
        ("BGR", PIXEL_MEANS, (480, 800), "other resize or means"),
    ],
)
def test_trying_the_ways_to_prepare_a_picture_finds_the_one(
    side: Side, channels: str, means: tuple[float, float, float], size: tuple[int, int], text: str
) -> None:
    name = "photo_000"
    images, way = {name: side.images[name]}, Way(channels, means, size)
    made = records(side.network, images, way.prepare)
    original, trial = (Trial.of([errors_of(side.network, found[name], images[name])]) for found in (side.records, made))
    assert trial.best == way and trial.errors[way] < 1e-5
    settled = settle(verdict(side.records, made), original, trial)
    assert settled.text == text
    assert f"B was prepared as {way}" in settled.reasons[-1]


def test_another_networks_record_fits_no_way(side: Side) -> None:
    name = "photo_001"
    made = records(detector(shuffle), {name: side.images[name]})
    trial = Trial.of([errors_of(side.network, made[name], side.images[name])])
    assert not trial.fits
    assert str(trial).startswith("fits none of 17 ways with these weights; the nearest, ")
    assert settle(Verdict(("other network",), ()), trial, trial).text == "other network"


def test_a_picture_of_another_size_is_refused(side: Side) -> None:
    record = side.records["photo_000"]
    with pytest.raises(ValueError, match="expected boxes of an image of 120 x 900 pixels, got 36 boxes of one of 900"):
        errors_of(side.network, record, side.images["photo_001"])
