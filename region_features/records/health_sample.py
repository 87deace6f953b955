"""HealthSample: sums over a sample of records, from which their health is told; those of shards add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

BINS = 50  # of confidences, from 0 to 1


@dataclass(frozen=True)
class HealthSample:
    """Sums over sampled records that have boxes."""

    images: int = 0
    boxes: int = 0
    confidences: tuple[int, ...] = (0,) * BINS  # boxes by the confidence of their object
    objects: Mapping[str, int] = field(default_factory=dict)  # object id -> its boxes
    distinct_objects: int = 0  # numbers of different objects of the images
    same_places: int = 0  # images whose boxes sit where those of another image of the shard sit
    feature_width: int = 0  # the largest
    feature_means: float = 0.0  # means of the images' features
    feature_norms: float = 0.0  # means of the norms of their boxes' features
    feature_zeros: float = 0.0  # shares of zeros among their features
    warm_things: tuple[int, int] = (0, 0)  # things that are brown, red, orange or yellow by nature: so, and blue
    blue_things: tuple[int, int] = (0, 0)  # things that are blue by nature: so, and brown, red, orange or yellow

    @property
    def median_confidence(self) -> float:
        """The median confidence of the boxes' objects, to half a bin; 0 without boxes."""
        below = 0
        for number, count in enumerate(self.confidences):
            below += count
            if 2 * below >= self.boxes and count:
                return (number + 0.5) / BINS
        return 0.0

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> HealthSample:
        """Decode what `dataclasses.asdict` and JSON made of it; ValueError, KeyError or TypeError if it is none."""
        columns: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
        }
        sample = cls(**columns)
        counts = [*sample.confidences, *sample.objects.values(), *sample.warm_things, *sample.blue_things]
        numbers = [getattr(sample, column.name) for column in fields(cls) if column.type in ("int", "float")]
        if not all(isinstance(number, int | float) for number in (*counts, *numbers)):
            raise TypeError("health of another type")
        if (len(sample.confidences), len(sample.warm_things), len(sample.blue_things)) != (BINS, 2, 2):
            raise ValueError("health of another length")
        return sample


NO_SAMPLE = HealthSample()


def add_samples(samples: Iterable[HealthSample]) -> HealthSample:
    """Return the sample of all the records; the same whatever their order but for the rounding of sums."""
    objects: Counter[str] = Counter()
    total: dict[str, Any] = {}
    for sample in samples:
        objects.update(sample.objects)
        for column in fields(HealthSample):
            value = getattr(sample, column.name)
            if column.name == "feature_width":
                total[column.name] = max(total.get(column.name, 0), value)
            elif isinstance(value, tuple):
                pairs = zip(total.get(column.name, (0,) * len(value)), value, strict=True)
                total[column.name] = tuple(one + other for one, other in pairs)
            elif column.name != "objects":
                total[column.name] = total.get(column.name, 0) + value
    return HealthSample(**total, objects=dict(sorted(objects.items(), key=lambda entry: int(entry[0]))))
