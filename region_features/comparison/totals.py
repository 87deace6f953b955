"""The comparisons of many images together, in flat memory: about 200 bytes an image."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from region_features.comparison.image import TWIN, ImageComparison, check_comparable, compare_records
from region_features.comparison.resize import count_fits, edges_of
from region_features.records.region_record import RegionRecord

_FITS = 0.5  # of the edges, from which a rule of resizing is named
FIELDS = tuple(ImageComparison.__dataclass_fields__)


@dataclass(eq=False)
class Side:
    """What is counted of one side alone.

    Attributes:
        widths: feature width -> records.
        edges: edges of images that a box touches.
        fits: rule of resizing -> edges at which boxes end as it says.
    """

    widths: Counter[int] = field(default_factory=Counter)
    edges: int = 0
    fits: Counter[str] = field(default_factory=Counter)

    def add(self, record: RegionRecord) -> None:
        """Count a record."""
        self.widths[record.features.shape[1]] += 1
        self.edges += int((~np.isnan(edges_of(record))).sum())
        self.fits.update(count_fits(record))

    @property
    def resizing(self) -> str:
        """The rule by which images were resized, in words, by where boxes end at the images' edges."""
        if not self.edges:
            return "resizing unknown, no box touches an edge"
        # Of rules that fit alike, the first in the table.
        name = max(self.fits, key=lambda rule: self.fits[rule])
        share = self.fits[name] / self.edges
        if share < _FITS:
            return f"resized by no known rule ({name} fits {share:.0%} of {self.edges} edges)"
        return f"{name} (fits {share:.0%} of {self.edges} edges)"


class Totals:
    """Sums and columns over images; `add` takes the two records of one."""

    def __init__(self) -> None:
        self.one, self.other = Side(), Side()
        self._columns = {name: array("d") for name in FIELDS}
        self._heights, self._widths = array("q"), array("q")

    def add(self, one: RegionRecord, other: RegionRecord) -> None:
        """Compare the records of an image and count them.

        Raises:
            ValueError: see `check_comparable`.
        """
        check_comparable(one)
        check_comparable(other)
        image = compare_records(one, other)
        for name, column in self._columns.items():
            column.append(getattr(image, name))
        self._heights.append(one.img_h)
        self._widths.append(one.img_w)
        self.one.add(one)
        self.other.add(other)

    def __len__(self) -> int:
        return len(self._heights)

    def column(self, name: str) -> NDArray[np.float64]:
        """Return a field of ImageComparison for all images."""
        return np.array(self._columns[name])

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Height and width of each image: (N, 2)."""
        return np.array([self._heights, self._widths]).T

    def of(self, images: NDArray[np.bool_]) -> Totals:
        """Return the totals of some images alone; what is counted of each side alone stays that of all."""
        part = Totals()
        part.one, part.other = self.one, self.other
        part._columns = {name: array("d", self.column(name)[images]) for name in FIELDS}
        part._heights, part._widths = (array("q", side[images]) for side in self.sizes.T)
        return part

    def total(self, name: str) -> float:
        """Return the sum of a field over all images."""
        return float(self.column(name).sum())

    def quantile(self, name: str, share: float = 0.5) -> float:
        """Return a quantile, the median by default, of a field over the images that have it; NaN if none has."""
        values = self.column(name)
        values = values[~np.isnan(values)]
        return float(np.quantile(values, share)) if len(values) else float("nan")

    def share(self, part: str, whole: str) -> float:
        """Return the quotient of two fields' sums; 0 of nothing."""
        whole_sum = self.total(whole)
        return self.total(part) / whole_sum if whole_sum else 0.0

    @property
    def comparable(self) -> int:
        """Boxes that could be the same: the smaller of the two numbers, over all images."""
        return int(np.minimum(self.column("boxes"), self.column("other_boxes")).sum())

    def of_comparable(self, name: str) -> float:
        """Return a field's sum as a share of the boxes that could be the same; 0 of nothing."""
        return self.total(name) / self.comparable if self.comparable else 0.0

    @property
    def unchanged(self) -> NDArray[np.bool_]:
        """Which images are the same in both: all boxes in order, with equal features."""
        return (self.column("in_order") > 0) & (self.column("same_error") <= TWIN)

    @property
    def unchanged_by_content(self) -> bool:
        """Whether of images of one size some are unchanged and some are not: their content decides, not their size."""
        sizes, unchanged = self.sizes, self.unchanged
        return bool(set(map(tuple, sizes[unchanged].tolist())) & set(map(tuple, sizes[~unchanged].tolist())))
