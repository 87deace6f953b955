"""Pictures of records: which boxes are drawn where, in which colours, with labels that do not cover each other."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageFont

from region_features.drawing.labels import place_labels
from region_features.drawing.regions import COLOURS, chosen_rows, draw_regions
from region_features.names import ClassNames
from region_features.records.region_record import RegionRecord
from tests.samples.records import make_record

NAMES = ClassNames(tuple((f"object {i}",) for i in range(6)), tuple((f"attribute {i}",) for i in range(4)))


def record_with(boxes: list[list[float]], confidences: list[float]) -> RegionRecord:
    record = make_record("x_1", boxes=len(boxes))
    return replace(record, boxes=np.array(boxes, np.float32), objects_conf=np.array(confidences, np.float32))


def gray(record: RegionRecord) -> np.ndarray:
    return np.full((record.img_h, record.img_w, 3), 128, np.uint8)


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width, height = (min(one[2 + side], other[2 + side]) - max(one[side], other[side]) for side in (0, 1))
    return max(width, 0) * max(height, 0)


def test_rows_are_chosen_by_confidence_and_number() -> None:
    record = record_with([[0, 0, 9, 9]] * 4, [0.25, 0.75, 0.5, 0.75])
    assert chosen_rows(record, None, 0.0).tolist() == [1, 3, 2, 0]
    assert chosen_rows(record, 3, 0.0).tolist() == [1, 3, 2]
    assert chosen_rows(record, None, 0.5).tolist() == [1, 3, 2]
    assert chosen_rows(record, None, 0.9).tolist() == []


def test_a_box_is_drawn_where_it_is_in_its_colour() -> None:
    record = record_with([[100, 200, 300, 400], [350, 50, 600, 450]], [0.5, 0.9])
    picture = draw_regions(gray(record), record, NAMES)
    assert picture.size == (640, 480)
    for (x1, _, x2, y2), colour in zip(record.boxes[[1, 0]].astype(int).tolist(), COLOURS, strict=False):
        assert picture.getpixel((x1, y2 - 20)) == ImageColor.getrgb(colour)
        assert picture.getpixel((x2, y2 - 20)) == ImageColor.getrgb(colour)
        assert picture.getpixel(((x1 + x2) // 2, y2)) == ImageColor.getrgb(colour)
    assert picture.getpixel((450, 300)) == (128, 128, 128)


def test_colours_of_the_image_stay_as_they_are() -> None:
    record = record_with([[100, 200, 300, 400]], [0.5])
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[..., 0] = 200  # blue comes first
    assert draw_regions(pixels, record, NAMES).getpixel((500, 100)) == (0, 0, 200)


def test_nothing_is_drawn_below_the_least_confidence() -> None:
    record = record_with([[100, 200, 300, 400]], [0.5])
    assert np.array_equal(np.asarray(draw_regions(gray(record), record, NAMES, min_confidence=0.6)), gray(record))


@pytest.mark.parametrize(
    ("size", "drawn"), [((30, 40), (600, 450)), ((600, 600), (600, 600)), ((2000, 3000), (3000, 2000))]
)
def test_small_images_are_enlarged_and_lines_and_text_grow_with_large_ones(
    size: tuple[int, int], drawn: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fonts: list[float] = []
    load = ImageFont.load_default

    def recorded(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        fonts.append(size)
        return load(size)

    monkeypatch.setattr(ImageFont, "load_default", recorded)
    height, width = size
    record = record_with([[width / 4, height / 2, width * 0.9, height * 0.9]], [0.5])
    record = replace(record, img_h=height, img_w=width)
    picture = draw_regions(gray(record), record, NAMES)
    assert picture.size == drawn
    assert fonts == [{600: 13, 3000: 60}[max(drawn)]]
    row = np.asarray(picture)[round(drawn[1] * 0.8)]
    left = row[: drawn[0] // 2]
    coloured = int((left == ImageColor.getrgb(COLOURS[0])).all(axis=1).sum())
    assert coloured == {600: 2, 3000: 9}[max(drawn)]


def test_without_names_the_numbers_are_drawn() -> None:
    record = record_with([[100, 200, 300, 400]], [0.5])
    named, numbered = (draw_regions(gray(record), record, names) for names in (NAMES, None))
    assert named.tobytes() != numbered.tobytes()


def test_an_image_without_boxes_stays_as_it_is() -> None:
    record = make_record("x_1", boxes=0)
    assert np.array_equal(np.asarray(draw_regions(gray(record), record, NAMES)), gray(record))


def test_another_image_is_refused() -> None:
    record = record_with([[100, 200, 300, 400]], [0.5])
    with pytest.raises(ValueError, match="image x_1: expected 640 x 480 pixels as its record says, got 480 x 640"):
        draw_regions(np.zeros((640, 480, 3), np.uint8), record, NAMES)


def test_labels_of_many_boxes_stay_inside_and_apart() -> None:
    rng = np.random.default_rng(0)
    boxes = [tuple(box) for box in make_record("x_1", boxes=36).boxes.tolist()]
    sizes = [(float(width), 18.0) for width in rng.integers(60, 150, 36)]
    places = place_labels(boxes, sizes, 640, 480)
    assert all(x1 >= 0 and y1 >= 0 and x2 <= 640 and y2 <= 480 for x1, y1, x2, y2 in places)
    assert [(x2 - x1, y2 - y1) for x1, y1, x2, y2 in places] == sizes
    covered = sum(overlap(*pair) for pair in combinations(places, 2))
    assert covered < 0.01 * sum(width * height for width, height in sizes)


def test_labels_of_one_place_cover_each_other_only_where_there_is_no_room() -> None:
    places = place_labels([(0, 0, 20, 20)] * 3, [(20.0, 10.0)] * 3, 20, 20)
    assert places[:2] == [(0, 0, 20, 10), (0, 10, 20, 20)]
    assert places[2] in places[:2]


def test_neighbours_differ_in_lightness_which_every_kind_of_colour_blindness_leaves() -> None:
    assert len({ImageColor.getrgb(colour) for colour in COLOURS}) == 7
    lightness = [int(np.asarray(Image.new("RGB", (1, 1), colour).convert("L"))[0, 0]) for colour in COLOURS]
    assert all(abs(one - other) > 40 for one, other in pairwise([*lightness, lightness[0]]))
