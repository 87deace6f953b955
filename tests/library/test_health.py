"""What a sample of records says of the network: nothing of real rows, a warning of each thing that is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from region_features.formats.tsv import decode_tsv_row
from region_features.health import verdict
from region_features.health.measure import IMAGES_A_SHARD, is_sampled, measure
from region_features.health.verdict import Range, describe_health, find_warnings, health_lines
from region_features.names import visual_genome
from region_features.records.health_sample import HealthSample, add_samples
from region_features.records.region_record import RegionRecord

BOXES = 36


def object_id(name: str) -> int:
    return [aliases[0] for aliases in visual_genome().objects].index(name)


def attribute_id(name: str) -> int:
    return [aliases[0] for aliases in visual_genome().attributes].index(name)


def plausible(seed: int, width: int = 2048) -> RegionRecord:
    """Make a record in the middle of what the real network gives."""
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.normal(0.7, 1.5, (BOXES, width)), 0).astype(np.float32)
    corners = np.sort(rng.random((BOXES, 2, 2)), axis=1) * [640, 480]
    return RegionRecord(
        img_id=f"x_{seed}",
        img_h=480,
        img_w=640,
        objects_id=rng.integers(0, 25, BOXES) + 100,
        objects_conf=rng.uniform(0.1, 0.7, BOXES).astype(np.float32),
        attrs_id=rng.integers(0, 400, BOXES),
        attrs_conf=np.full(BOXES, 0.3, np.float32),
        boxes=corners.reshape(BOXES, 4).astype(np.float32),
        features=features,
        cls_prob=np.empty((BOXES, 0), np.float32),
        attrs=np.empty((BOXES, 0), np.float32),
    )


def warnings(records: Sequence[RegionRecord], settings: Mapping[str, object] | None = None) -> list[str]:
    return list(find_warnings(measure(records), settings or {}))


@pytest.fixture(scope="module")
def real_rows(real_tsv: Path) -> list[RegionRecord]:
    return [decode_tsv_row(line, "real") for line in real_tsv.read_bytes().splitlines()]


def test_real_rows_are_well_together_and_each_alone(real_rows: list[RegionRecord]) -> None:
    assert warnings(real_rows) == []
    assert [warnings([record]) for record in real_rows] == [[]] * 10
    line, *more = health_lines(describe_health(measure(real_rows), {}), other_network=False)
    assert not more
    assert line.startswith(
        "health of 10 sampled images [the real network's]: median confidence 0.37 [0.26 to 0.46], 117 objects, "
        "17.5 an image [10 to 20], 6% of the boxes are 291 (tree), boxes at the same places in 0% of the images, "
    )


def test_the_ranges_are_those_of_the_real_rows(real_rows: list[RegionRecord]) -> None:
    alone = [describe_health(measure([record]), {}) for record in real_rows]
    medians = [float(np.median(record.objects_conf)) for record in real_rows]

    def spans(values: list[float], span: Range, digits: float) -> bool:
        return [min(values), max(values)] == pytest.approx([span.low, span.high], abs=digits)

    assert spans(medians, verdict.MEDIAN_CONFIDENCE, 0.006)
    assert spans([row["distinct_objects_per_image"] / 36 for row in alone], verdict.DISTINCT_SHARE, 0.006)
    assert spans([row["commonest_object_share"] for row in alone], verdict.COMMONEST_SHARE, 0.006)
    assert spans([row["feature_mean"] for row in alone], verdict.FEATURE_MEAN, 0.006)
    assert spans([row["feature_norm"] for row in alone], verdict.FEATURE_NORM, 0.06)
    assert spans([row["feature_zeros_share"] for row in alone], verdict.FEATURE_ZEROS, 0.006)


def test_swapped_channels_show_in_the_colours_of_things(real_rows: list[RegionRecord]) -> None:
    """Simulated: what the network would say of blue wood and of an orange sky was never seen."""
    blue, brown = attribute_id("blue"), attribute_id("brown")
    swapped = []
    for record in real_rows:
        warm = np.isin(record.attrs_id, [attribute_id(name) for name in ("brown", "orange", "yellow", "red")])
        colours = np.where(warm, blue, np.where(record.attrs_id == blue, brown, record.attrs_id))
        swapped.append(replace(record, attrs_id=colours))
    (warning,) = warnings(swapped)
    assert warning == (
        "5 of 5 coloured things such as wood, hair and bread are blue, and 5 of 5 skies, waters and jeans are brown, "
        "red or yellow: are red and blue swapped?"
    )


def with_colours(things: Sequence[tuple[str, str]]) -> RegionRecord:
    record = plausible(1)
    objects, attributes = record.objects_id.copy(), np.full(BOXES, attribute_id("small"))
    for row, (thing, colour) in enumerate(things):
        objects[row], attributes[row] = object_id(thing), attribute_id(colour)
    return replace(record, objects_id=objects, attrs_id=attributes)


def test_sunsets_blue_cars_and_single_blue_things_are_no_swapped_channels() -> None:
    assert warnings([with_colours([("sky", "orange")] * 6)]) == []
    assert warnings([with_colours([("car", "blue")] * 6)]) == []
    assert warnings([with_colours([("pizza", "blue")] * 4)]) == []
    assert warnings([with_colours([("hair", "blue")] * 5 + [("sky", "blue")] * 2)]) == []
    assert "swapped?" in warnings([with_colours([("hair", "blue")] * 5)])[0]


def test_a_plausible_record_has_no_warning() -> None:
    assert warnings([plausible(1)]) == [] == warnings([plausible(seed) for seed in range(5)])


def test_random_features_are_told_by_width_mean_norm_and_zeros() -> None:
    assert warnings([plausible(1, width=64)]) == [
        "features are 64 wide, the real network's 2048: are these its weights?"
    ]
    record = plausible(1)
    dense = replace(record, features=np.full_like(record.features, 5.0))
    assert warnings([dense]) == [
        "features have the mean 5 and the norm 226, the real network's 0.49 to 0.84 and 61.5 to 85.3: are these its "
        "weights?",
        "0% of the features' numbers are zero, of the real network's 24% to 39%: are these trained weights?",
    ]


def test_one_object_everywhere_and_few_objects_are_told_with_the_name() -> None:
    record = plausible(1)
    objects = record.objects_id.copy()
    objects[:20] = 50
    sure = replace(record, objects_id=objects, objects_conf=np.ones(BOXES, np.float32))
    first, second = warnings([sure])
    assert first == "20 of 36 sampled boxes are object 50 (man), median confidence 0.99: are these the real weights?"
    assert second.startswith("the median confidence is 0.99, the real network's 0.26 to 0.46: are these trained")
    few = replace(record, objects_id=np.arange(BOXES) % 4)
    assert warnings([few]) == [
        "an image has 4.0 different objects in 36 boxes, with the real network 10 to 20 in 36: are these photographs, "
        "and trained weights?"
    ]


def test_boxes_at_the_same_places_are_told_whatever_the_order_and_size_of_the_images() -> None:
    record = plausible(1)
    order = np.random.default_rng(0).permutation(BOXES)
    larger = replace(record, img_h=960, img_w=1280, boxes=record.boxes[order] * 2 + 3)
    others = [plausible(seed) for seed in range(2, 4)]
    assert warnings([record, larger, *others]) == [
        "2 of 4 sampled images have their boxes at the same places as another: are the images blank or copies, or is "
        "the network not trained?"
    ]
    assert warnings([record, larger, *others, plausible(4)]) == []
    assert warnings([record, larger], {"boxes_sha256": "ab"}) == []


def test_another_network_is_not_compared_with_bottom_up_attention() -> None:
    settings = {"detector_config_sha256": "ab"}
    records = [replace(plausible(1, width=64), img_id=f"x_{number}") for number in range(2)]
    assert len(warnings(records, settings)) == 1
    line, warning = health_lines(describe_health(measure(records), settings), other_network=True)
    assert "[" not in line and "(" not in line and line.startswith("health of 2 sampled images: median confidence 0.")
    assert warning.startswith("warning: 2 of 2 sampled images have their boxes at the same places")


def test_records_without_boxes_are_left_out() -> None:
    empty = {field: getattr(plausible(1), field)[:0] for field in ("boxes", "features", "objects_id", "objects_conf")}
    empty |= {field: getattr(plausible(1), field)[:0] for field in ("attrs_id", "attrs_conf", "cls_prob", "attrs")}
    assert measure([replace(plausible(1), **empty)]) == HealthSample()


def test_samples_of_shards_add_up_and_survive_json() -> None:
    records = [plausible(seed) for seed in range(4)]
    parts = [measure(records[:1]), measure(records[1:])]
    whole, added = measure(records), add_samples(parts)
    assert replace(added, feature_means=0, feature_norms=0, feature_zeros=0) == replace(
        whole, feature_means=0, feature_norms=0, feature_zeros=0
    )
    assert added.feature_norms == pytest.approx(whole.feature_norms, abs=1e-3)
    assert [HealthSample.from_row(json.loads(json.dumps(asdict(part)))) for part in parts] == parts
    assert add_samples([]) == HealthSample()
    for wrong in ({"images": "1"}, {"objects": {"1": "x"}}, {"confidences": [1]}, {"nothing": 1}):
        with pytest.raises((ValueError, TypeError)):
            HealthSample.from_row(wrong)


@pytest.mark.parametrize("total", [1, 5, 16, 17, 100, 256])
def test_samples_are_spread_evenly_over_a_shard(total: int) -> None:
    chosen = [position for position in range(total) if is_sampled(position, total)]
    assert len(chosen) == min(total, IMAGES_A_SHARD) and chosen[0] == 0
    steps = np.diff(chosen)
    assert total == 1 or steps.max() - steps.min() <= 1


def test_the_median_of_the_confidences_is_right_to_half_a_bin() -> None:
    record = plausible(1)
    for confidence in (0.0, 0.013, 0.5, 1.0, 1.0000001):
        sure = replace(record, objects_conf=np.full(BOXES, confidence, np.float32))
        assert measure([sure]).median_confidence == pytest.approx(confidence, abs=0.0101)
