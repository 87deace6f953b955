"""Measure a sample of records. K: boxes of an image; D: feature width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from region_features.health.colours import colour_votes
from region_features.records.health_sample import BINS, HealthSample
from region_features.records.region_record import RegionRecord

# Records of a shard that are measured: a millisecond each, a tenth of one an image.
IMAGES_A_SHARD = 16
# Boxes of two images sit at one place if no corner is further apart than this share of the image's sides.
_SAME_CORNER = 0.02
_SAME_BOXES = 0.9
# Sums are rounded, so that machines that add in another order write the same bytes.
_DIGITS = 4


def is_sampled(position: int, total: int) -> bool:
    """Return whether the record at a position is one of the IMAGES_A_SHARD that are spread evenly over a shard."""
    return position == 0 or position * IMAGES_A_SHARD // total != (position - 1) * IMAGES_A_SHARD // total


_NEEDED = ("features", "objects_id", "objects_conf")


def measure(records: Iterable[RegionRecord]) -> HealthSample:
    """Measure records; those without boxes, features or classes are left out."""
    meter = HealthMeter()
    for record in records:
        meter.add(record)
    return meter.sample()


class HealthMeter:
    """Measures records one by one; keeps their boxes, and nothing else of them."""

    def __init__(self) -> None:
        self._places: list[NDArray[np.float64]] = []
        self._confidences = np.zeros(BINS, np.int64)
        self._objects: Counter[int] = Counter()
        self._distinct = self._width = 0
        self._features = np.zeros(3)  # mean, norm, zeros
        self._colours = np.zeros((2, 2), np.int64)

    def add(self, record: RegionRecord) -> None:
        """Measure one record."""
        if not record.num_boxes or any(map(record.lacks, _NEEDED)):
            return
        sides = np.array([record.img_w, record.img_h] * 2, np.float64)
        self._places.append(record.boxes / sides)
        self._confidences += np.histogram(record.objects_conf.clip(0, 1), BINS, (0.0, 1.0))[0]
        objects = record.objects_id.tolist()
        self._objects.update(objects)
        self._distinct += len(set(objects))
        self._width = max(self._width, record.features.shape[1])
        norms = np.linalg.norm(record.features, axis=1)
        zeros = 1 - np.count_nonzero(record.features) / record.features.size
        self._features += [record.features.mean(dtype=np.float64), norms.mean(dtype=np.float64), zeros]
        self._colours += np.array(colour_votes(record))

    def sample(self) -> HealthSample:
        """Return the sums over the records so far."""
        mean, norm, zeros = (round(float(value), _DIGITS) for value in self._features)
        warm, blue = self._colours.tolist()
        return HealthSample(
            images=len(self._places),
            boxes=sum(map(len, self._places)),
            confidences=tuple(self._confidences.tolist()),
            objects={str(number): self._objects[number] for number in sorted(self._objects)},
            distinct_objects=self._distinct,
            same_places=_same_places(self._places),
            feature_width=self._width,
            feature_means=mean,
            feature_norms=norm,
            feature_zeros=zeros,
            warm_things=(warm[0], warm[1]),
            blue_things=(blue[0], blue[1]),
        )


def _same_places(places: list[NDArray[np.float64]]) -> int:
    """Count the images, boxes (K, 4) from 0 to 1, that have nearly all boxes where another image has them."""
    same: set[int] = set()
    for one, other in combinations(range(len(places)), 2):
        if not {one, other} <= same and _at_same_places(places[one], places[other]):
            same |= {one, other}
    return len(same)


def _at_same_places(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    near = np.ones((len(one), len(other)), bool)  # (K, K)
    for column in range(4):
        near &= np.abs(np.subtract.outer(one[:, column], other[:, column])) < _SAME_CORNER
        if min(near.any(axis=side).mean() for side in (0, 1)) < _SAME_BOXES:
            return False
    return True
