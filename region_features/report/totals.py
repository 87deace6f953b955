"""Everything that a report counts and samples, in one pass over the records. K: boxes of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from region_features.formats.example import ImageExample
from region_features.names import ClassNames
from region_features.report.duplicates import NearDuplicates
from region_features.report.extremes import Extremes
from region_features.report.histogram import logarithmic, shares, whole_numbers
from region_features.report.view import ImageView, sample_rank, view_of

SAMPLED_IMAGES = 24
# The oddest images: four groups of four, and four pairs.
_IMAGES_A_GROUP = 4
_PAIRS = 4
_MOST_BOXES, _MOST_WORDS = 200, 60


class OddGroup(NamedTuple):
    """Images that stand out: the heading, and each image with what was measured of it."""

    title: str
    images: list[tuple[str, ImageView]]


class OddPair(NamedTuple):
    """Two images by the numbers in which they came, and how alike they are."""

    first: int
    second: int
    note: str


class Totals:
    """Counts records one by one; memory does not grow with their number.

    Args:
        settings: of the run; `conf_threshold` says which boxes count as confident.
        names: that the classes may have, None where there are none.
    """

    def __init__(self, settings: Mapping[str, Any], names: ClassNames | None) -> None:
        self._names, self._names_fit = names, True
        self.threshold = float(settings.get("conf_threshold", 0.2))
        self.images = self.boxes = self.without_boxes = 0
        self.confident_boxes = whole_numbers(_MOST_BOXES)
        self.confidences = shares(50)
        self.areas = logarithmic(-5, 0, 10)
        self.norms = logarithmic(-3, 6, 40)
        self.zeros = shares(50)
        self.caption_words = whole_numbers(_MOST_WORDS)
        self.objects: Counter[int] = Counter()
        self.attributes: Counter[int] = Counter()
        self.splits: dict[str, Counter[str]] = {}  # set -> split, empty for images without captions -> images
        self._sample: Extremes[ImageView] = Extremes(SAMPLED_IMAGES)
        self._confident, self._unsure, self._small, self._large = (
            Extremes[ImageView](_IMAGES_A_GROUP) for _ in range(4)
        )
        self._duplicates = NearDuplicates()

    def add(self, set_name: str, example: ImageExample, shard: str) -> None:
        """Count one image."""
        record, number = example.record, self.images
        rank = sample_rank(set_name, record.img_id)

        def view() -> ImageView:
            return view_of(example, shard)

        self.images += 1
        self.boxes += record.num_boxes
        self._sample.offer(-rank, view)
        self.splits.setdefault(set_name, Counter())[example.split] += 1
        self.caption_words.add([len(caption.split()) for caption in example.captions])
        self.confident_boxes.add([np.count_nonzero(record.objects_conf >= self.threshold)])
        if not record.num_boxes:
            self.without_boxes += 1
            return
        self._names_fit = self._names_fit and (self._names is None or self._names.fit(record))
        self.confidences.add(record.objects_conf)
        self.objects.update(record.objects_id.tolist())
        self.attributes.update(record.attrs_id[record.attrs_conf > 0].tolist())
        sides = (record.boxes[:, 2:] - record.boxes[:, :2]).astype(np.float64)
        areas = sides.prod(axis=1).clip(0) / (record.img_w * record.img_h)
        self.areas.add(areas)
        mean_confidence = float(record.objects_conf.mean())
        self._confident.offer(mean_confidence, view)
        self._unsure.offer(-mean_confidence, view)
        self._small.offer(-float(areas.min()), view)
        if record.features.shape[1]:
            features = record.features
            norms = np.sqrt(np.einsum("kd,kd->k", features, features))
            self.norms.add(norms)
            self.zeros.add([1 - np.count_nonzero(features != 0) / features.size])
            self._large.offer(float(norms.max()), view)
            self._duplicates.add(number, rank, features.mean(axis=0))

    @property
    def names(self) -> ClassNames | None:
        """The names of the network's classes if all records have these classes, else None."""
        return self._names if self._names_fit else None

    def sample(self) -> list[ImageView]:
        """Return the sampled images, in the order of their shards and ids."""
        return sorted((view for _, view in self._sample.best()), key=lambda view: (view.shard, view.img_id))

    def odd_groups(self) -> Iterator[OddGroup]:
        """Yield the groups of images that stand out by one number each."""
        for title, extremes, text in (
            ("Most confident", self._confident, "mean confidence {:.2f}"),
            ("Least confident", self._unsure, "mean confidence {:.2f}"),
            ("Smallest boxes", self._small, "smallest box {:.4%} of the image"),
            ("Largest norm of a feature", self._large, "norm {:.1f}"),
        ):
            yield OddGroup(title, [(text.format(abs(score)), view) for score, view in extremes.best()])

    def odd_pairs(self) -> list[OddPair]:
        """Return the pairs of images whose mean features are most alike."""
        return [OddPair(pair.first, pair.second, _alike(pair.cosine)) for pair in self._duplicates.nearest(_PAIRS)]


def _alike(cosine: float) -> str:
    return f"cosine of the mean features {cosine:.4f}"
