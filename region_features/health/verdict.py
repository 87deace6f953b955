"""What a sample of records says of the network that made them, in numbers and plain warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from region_features.names import visual_genome
from region_features.records.health_sample import HealthSample


class Range(NamedTuple):
    """What the real network gives, and the values beyond which something else must be the cause."""

    low: float
    high: float
    least: float
    most: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, float) and self.least <= value <= self.most


# Lowest and highest image of ten real rows: bottom-up attention with its published weights, 36 boxes an image, of COCO
# train2014's images 84002, 131486, 132417, 201446, 207647, 306661, 387267, 494628, 573195 and 578174. The limits are
# about twice as far: other photographs differ more than these ten.
MEDIAN_CONFIDENCE = Range(0.26, 0.46, 0.1, 0.8)
DISTINCT_SHARE = Range(0.28, 0.56, 0.15, 1.0)  # different objects of an image, of its boxes
COMMONEST_SHARE = Range(0.14, 0.25, 0.0, 0.5)  # boxes of an image's commonest object
FEATURE_WIDTH = 2048
FEATURE_MEAN = Range(0.49, 0.84, 0.25, 1.7)
FEATURE_NORM = Range(61.5, 85.3, 30.0, 170.0)
FEATURE_ZEROS = Range(0.24, 0.39, 0.1, 0.65)
_SAME_PLACES = 0.5
_FEW_BOXES = 10  # of an image: fewer say nothing of its objects
_FEW_COLOURS = 5


def describe_health(sample: HealthSample, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a sample for the manifest.

    Args:
        sample: of at least one image.
        settings: of the run, see `Plan`; they say whether its records can be compared with the real network's.
    """
    number, boxes = max(sample.objects.items(), key=lambda entry: (entry[1], -int(entry[0])))
    return {
        "sampled_images": sample.images,
        "median_confidence": round(sample.median_confidence, 2),
        "distinct_objects": len(sample.objects),
        "distinct_objects_per_image": round(sample.distinct_objects / sample.images, 1),
        "commonest_object": int(number),
        "commonest_object_share": round(boxes / sample.boxes, 3),
        "same_places_share": round(sample.same_places / sample.images, 3),
        "feature_width": sample.feature_width,
        "feature_mean": round(sample.feature_means / sample.images, 3),
        "feature_norm": round(sample.feature_norms / sample.images, 1),
        "feature_zeros_share": round(sample.feature_zeros / sample.images, 3),
        "warnings": list(find_warnings(sample, settings)),
    }


def find_warnings(sample: HealthSample, settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield what cannot be of the trained network and of photographs, a line each."""
    given_boxes, other_network = "boxes_sha256" in settings, "detector_config_sha256" in settings
    if not given_boxes and sample.images > 1 and sample.same_places / sample.images >= _SAME_PLACES:
        yield (
            f"{sample.same_places} of {sample.images} sampled images have their boxes at the same places as another: "
            "are the images blank or copies, or is the network not trained?"
        )
    if other_network:
        return
    if not given_boxes:
        yield from _object_warnings(sample)
    if sample.median_confidence not in MEDIAN_CONFIDENCE:
        yield (
            f"the median confidence is {sample.median_confidence:.2f}, the real network's {_span(MEDIAN_CONFIDENCE)}: "
            "are these trained weights, and photographs?"
        )
    yield from _feature_warnings(sample)
    warm, warm_in_blue = sample.warm_things
    blue, blue_in_warm = sample.blue_things
    # Skies alone do not count: they are orange at sunset.
    if warm + warm_in_blue >= _FEW_COLOURS and warm_in_blue > warm and blue_in_warm >= blue:
        yield (
            f"{warm_in_blue} of {warm + warm_in_blue} coloured things such as wood, hair and bread are blue, and "
            f"{blue_in_warm} of {blue + blue_in_warm} skies, waters and jeans are brown, red or yellow: "
            "are red and blue swapped?"
        )


def _object_warnings(sample: HealthSample) -> Iterator[str]:
    if sample.boxes < _FEW_BOXES * sample.images:
        return
    number, boxes = max(sample.objects.items(), key=lambda entry: (entry[1], -int(entry[0])))
    if boxes / sample.boxes not in COMMONEST_SHARE:
        yield (
            f"{boxes} of {sample.boxes} sampled boxes are object {number}{_named(int(number))}, median confidence "
            f"{sample.median_confidence:.2f}: are these the real weights?"
        )
    if sample.distinct_objects / sample.boxes not in DISTINCT_SHARE:
        per_image = sample.distinct_objects / sample.images
        yield (
            f"an image has {per_image:.1f} different objects in {sample.boxes / sample.images:.0f} boxes, with the "
            "real network 10 to 20 in 36: are these photographs, and trained weights?"
        )


def _feature_warnings(sample: HealthSample) -> Iterator[str]:
    mean, norm = sample.feature_means / sample.images, sample.feature_norms / sample.images
    zeros = sample.feature_zeros / sample.images
    # Mean and norm depend on the width, the share of zeros hardly.
    if sample.feature_width != FEATURE_WIDTH:
        yield f"features are {sample.feature_width} wide, the real network's {FEATURE_WIDTH}: are these its weights?"
    elif mean not in FEATURE_MEAN or norm not in FEATURE_NORM:
        yield (
            f"features have the mean {mean:.3g} and the norm {norm:.3g}, the real network's {_span(FEATURE_MEAN)} and "
            f"{_span(FEATURE_NORM)}: are these its weights?"
        )
    if zeros not in FEATURE_ZEROS:
        yield (
            f"{zeros:.0%} of the features' numbers are zero, of the real network's {FEATURE_ZEROS.low:.0%} to "
            f"{FEATURE_ZEROS.high:.0%}: are these trained weights?"
        )


def health_lines(health: Mapping[str, Any], other_network: bool) -> Iterator[str]:
    """Yield the health in a manifest as a person reads it: one line, then one a warning.

    Args:
        health: from `describe_health`.
        other_network: leave out what bottom-up attention gives, and its names.
    """
    rows = health_rows(health, other_network)
    described = (text + (f" [{real}]" if real else "") for text, real in rows)
    compared = "" if other_network else " [the real network's]"
    yield f"health of {health['sampled_images']} sampled images{compared}: {', '.join(described)}"
    yield from (f"warning: {warning}" for warning in health["warnings"])


def health_rows(health: Mapping[str, Any], other_network: bool) -> Iterator[tuple[str, str]]:
    """Yield each measure of the health as text, with the range that the real network gives, empty where there is none.

    Args:
        health: from `describe_health`.
        other_network: leave out what bottom-up attention gives, and its names.
    """
    number = health["commonest_object"]
    parts = [
        ("median confidence {median_confidence:.2f}", _span(MEDIAN_CONFIDENCE)),
        ("{distinct_objects} objects, {distinct_objects_per_image:g} an image", "10 to 20"),
        (f"{{commonest_object_share:.0%}} of the boxes are {number}{'' if other_network else _named(number)}", ""),
        ("boxes at the same places in {same_places_share:.0%} of the images", ""),
        ("features {feature_width} wide", str(FEATURE_WIDTH)),
        ("mean {feature_mean:.2f}", _span(FEATURE_MEAN)),
        ("norm {feature_norm:.1f}", _span(FEATURE_NORM)),
        ("{feature_zeros_share:.0%} zeros", f"{FEATURE_ZEROS.low:.0%} to {FEATURE_ZEROS.high:.0%}"),
    ]
    yield from ((text.format_map(health), "" if other_network else real) for text, real in parts)


def _span(span: Range) -> str:
    return f"{span.low:g} to {span.high:g}"


def _named(number: int) -> str:
    names = visual_genome()
    return f" ({names.object_name(number)})" if number < len(names.objects) else ""
