"""What two records of one image have in common. K, L: their boxes; D: feature width.

Differences of features are given as shares of the *spread*, the median distance between the features of one image's
boxes: a network that tells boxes apart poorly has small differences whatever is done to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from region_features.comparison.boxes import distances, mutual_best, overlaps, shift
from region_features.comparison.resize import EDGE_TOLERANCE, edges_of
from region_features.records.region_record import RegionRecord

SAME_BOX = 0.05  # pixels of the original image: rounding in another order moves a corner by less
NEAR = 0.75  # IoU: two proposals of one run overlap by at most 0.7
OVERLAPPING = 0.5  # IoU
TWIN = 0.01  # of the spread: features of one region, at whatever precision they were computed or stored
# Visual Genome's attributes, from 0, that a swap of red and blue turns into each other: blue, deep, bright, light and
# dark blue; red, yellow, orange, brown, maroon, gold, tan, golden brown, golden.
BLUE, WARM = (6, 91, 254, 284, 368), (4, 10, 14, 23, 117, 141, 204, 220, 394)
_RESCALED = 1.05  # boxes that end this much farther may be in other units


@dataclass(frozen=True)
class ImageComparison:
    """Numbers of one image; NaN where there is nothing to measure.

    Attributes:
        boxes, other_boxes: K and L.
        other_size: whether the two records give the image different sizes.
        scale_x, scale_y: units of the other's boxes over those of the first's; 1 where they are the same.
        same: boxes that both have, within SAME_BOX; the other's are divided by the scale first.
        in_order: whether K = L and row by row the boxes are the same.
        near: pairs of boxes that are not the same and overlap by at least NEAR, each the other's best.
        overlapping: the same for OVERLAPPING, the same boxes included.
        shift: median shift of a corner within `near`, pixels.
        twins: pairs of rows with equal features (TWIN).
        moved_twins: those of other boxes.
        twin_overlap: median IoU of the moved twins.
        same_error, near_error: median difference of the features of same and of near boxes, share of the spread.
        cosine, lowest_cosine: median and least cosine of features at the best pairs there are: same boxes, or else
            near ones.
        difference: largest difference of a feature at same boxes.
        object_pairs, equal_objects: these pairs where both records have classes, and how many of them have equal ones.
        attribute_pairs, equal_attributes: the same for attributes.
        near_twins: near boxes whose features are equal: they end in the same cells of the feature map.
        resemblance: sum of the cosines of overlapping boxes' features, less the image's mean on each side.
        coloured: overlapping boxes with a blue attribute or a red, brown, orange or yellow one on both sides.
        turned: those of them that are blue on one side only.
        edges, equal_edges: edges of the image, 0 to 2, that boxes of both touch; and where they end alike.
    """

    boxes: int
    other_boxes: int
    other_size: bool
    scale_x: float
    scale_y: float
    same: int
    in_order: bool
    near: int
    overlapping: int
    shift: float
    twins: int
    moved_twins: int
    twin_overlap: float
    same_error: float
    near_error: float
    cosine: float
    lowest_cosine: float
    difference: float
    object_pairs: int
    equal_objects: int
    attribute_pairs: int
    equal_attributes: int
    near_twins: int
    resemblance: float
    coloured: int
    turned: int
    edges: int
    equal_edges: int


_NO_IDS = np.empty(0, np.int64)


def check_comparable(record: RegionRecord) -> None:
    """Refuse a record that cannot be measured.

    Raises:
        ValueError: its image has no size, or a box or feature is not finite.
    """
    if min(record.img_h, record.img_w) < 1:
        size = f"{record.img_w} x {record.img_h}"
        raise ValueError(f"image {record.img_id}: expected an image of at least 1 x 1 pixels, got {size}")
    for name in ("boxes", "features"):
        if not np.isfinite(getattr(record, name)).all():
            raise ValueError(f"image {record.img_id}: expected finite {name}, got NaN or infinity")


def compare_records(one: RegionRecord, other: RegionRecord) -> ImageComparison:
    """Compare two records of one image, both `check_comparable`; features of different widths are left out."""
    scale = _scale(one, other)
    boxes, others = one.boxes.astype(np.float64), other.boxes.astype(np.float64) / np.tile(scale, 2)
    overlap = overlaps(boxes, others)
    rows, partners = mutual_best(overlap)
    shifts, shared = shift(boxes[rows], others[partners]), overlap[rows, partners]
    same, near = shifts <= SAME_BOX, (shifts > SAME_BOX) & (shared >= NEAR)
    over = same | (shared >= OVERLAPPING)
    ends, other_ends = np.array(edges_of(one)), np.array(edges_of(other))
    best = same if same.any() else near
    pair_rows, pair_partners = rows[best], partners[best]
    features = _Features.of(one, other)
    differences = features.differences(rows, partners)
    errors = np.linalg.norm(differences, axis=1) / features.spread if features.width else np.full(len(rows), np.nan)
    cosines = features.cosines(pair_rows, pair_partners, errors[best])
    twins = features.twins(overlap)
    twin_shifts = shift(boxes[twins[0]], others[twins[1]])
    moved = twin_shifts > SAME_BOX
    with_attributes = not (one.lacks("attrs_id") or other.lacks("attrs_id"))
    attributes = (one.attrs_id[rows[over]], other.attrs_id[partners[over]]) if with_attributes else (_NO_IDS, _NO_IDS)
    blue = [np.isin(ids, BLUE) for ids in attributes]
    coloured = np.logical_and(*(side | np.isin(ids, WARM) for side, ids in zip(blue, attributes, strict=True)))
    object_pairs, equal_objects = _equal_ids(one, other, "objects_id", pair_rows, pair_partners)
    attribute_pairs, equal_attributes = _equal_ids(one, other, "attrs_id", pair_rows, pair_partners)
    in_order = len(boxes) == len(others) and bool((shift(boxes, others) <= SAME_BOX).all())
    return ImageComparison(
        boxes=len(boxes),
        other_boxes=len(others),
        other_size=(one.img_h, one.img_w) != (other.img_h, other.img_w),
        scale_x=float(scale[0]),
        scale_y=float(scale[1]),
        same=int(same.sum()),
        in_order=in_order,
        near=int(near.sum()),
        overlapping=int(over.sum()),
        shift=_median(shifts[near]),
        twins=len(moved),
        moved_twins=int(moved.sum()),
        twin_overlap=_median(overlap[twins][moved]),
        same_error=_median(errors[same]),
        near_error=_median(errors[near]),
        cosine=_median(cosines),
        lowest_cosine=float(cosines.min(initial=np.inf)) if len(cosines) else np.nan,
        difference=float(np.abs(differences[same]).max()) if features.width and same.any() else np.nan,
        object_pairs=object_pairs,
        equal_objects=equal_objects,
        attribute_pairs=attribute_pairs,
        equal_attributes=equal_attributes,
        near_twins=int((errors[near] <= TWIN).sum()),
        resemblance=features.resemblance(rows[over], partners[over]),
        coloured=int(coloured.sum()),
        turned=int((coloured & (blue[0] != blue[1])).sum()),
        edges=int((~np.isnan(ends + other_ends)).sum()),
        equal_edges=int((np.abs(ends - other_ends) <= EDGE_TOLERANCE).sum()),
    )


def _equal_ids(
    one: RegionRecord, other: RegionRecord, name: str, rows: NDArray[np.intp], partners: NDArray[np.intp]
) -> tuple[int, int]:
    """Return the number of pairs of rows whose ids both records have, and of those with equal ones."""
    if one.lacks(name) or other.lacks(name):
        return 0, 0
    return len(rows), int((getattr(one, name)[rows] == getattr(other, name)[partners]).sum())


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else np.nan


def _scale(one: RegionRecord, other: RegionRecord) -> NDArray[np.float64]:
    """Return the units of the other's boxes, x and y, over those of the first's; 1 if more boxes fit as they are."""
    if not len(one.boxes) or not len(other.boxes):
        return np.ones(2)
    ends, other_ends = (np.maximum(record.boxes[:, 2:].max(axis=0).astype(np.float64), 1e-6) for record in (one, other))
    scale = other_ends / ends
    if (np.maximum(scale, 1 / scale) < _RESCALED).all():
        return np.ones(2)

    def fits(divisor: NDArray[np.float64]) -> int:
        overlap = overlaps(one.boxes, other.boxes / np.tile(divisor, 2))
        return int((overlap[mutual_best(overlap)] >= NEAR).sum())

    return scale if fits(scale) > fits(np.ones(2)) else np.ones(2)


@dataclass(frozen=True, eq=False)
class _Features:
    """Features of the two records, float32 (K, D) and (L, D), D = 0 where they cannot be compared.

    Attributes:
        own, between, theirs: inner products of all rows with all rows, (K, K), (K, L) and (L, L), exact to about 1e-6.
        spread: see above.
    """

    one: NDArray[np.float32]
    other: NDArray[np.float32]
    own: NDArray[np.float64]
    between: NDArray[np.float64]
    theirs: NDArray[np.float64]
    spread: float

    @classmethod
    def of(cls, one: RegionRecord, other: RegionRecord) -> _Features:
        comparable = one.features.shape[1] == other.features.shape[1]
        width = one.features.shape[1] if comparable else 0
        left, right = one.features[:, :width], other.features[:, :width]
        # In float32: an order of magnitude faster, and each use of these bears the rounding.
        own, between, theirs = (side.astype(np.float64) for side in (left @ left.T, left @ right.T, right @ right.T))
        apart = distances(own, own.diagonal(), own.diagonal())[np.triu_indices(len(left), 1)]
        # One box, or boxes whose features are all alike: their length in place of a spread.
        spread = _median(apart) if len(apart) and np.median(apart) > 0 else _median(np.sqrt(own.diagonal()))
        return cls(left, right, own, between, theirs, spread if spread > 0 else 1.0)

    @property
    def width(self) -> int:
        return self.one.shape[1]

    def differences(self, rows: NDArray[np.int64], partners: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.one[rows] - self.other[partners]

    def cosines(
        self, rows: NDArray[np.int64], partners: NDArray[np.int64], errors: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the cosines of pairs of rows by the lengths of their differences, exact also where they are near 1."""
        if not self.width:
            return np.zeros(0)
        left, right = np.sqrt(self.own.diagonal()[rows]), np.sqrt(self.theirs.diagonal()[partners])
        return 1 - ((errors * self.spread) ** 2 - (left - right) ** 2).clip(0) / np.maximum(2 * left * right, 1e-12)

    def twins(self, overlap: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if not self.width:
            return mutual_best(np.zeros((0, 0)))
        apart = distances(self.between, self.own.diagonal(), self.theirs.diagonal())
        # Boxes that end in the same cells of the feature map have equal features: of such, take the nearest box.
        rows, partners = mutual_best(1e-2 * TWIN * overlap - apart.clip(1e-2 * TWIN * self.spread) / self.spread)
        equal = apart[rows, partners] <= TWIN * self.spread
        return rows[equal], partners[equal]

    def resemblance(self, rows: NDArray[np.int64], partners: NDArray[np.int64]) -> float:
        if not self.width or not len(rows):
            return 0.0
        own, between, theirs = map(_centred, (self.own, self.between, self.theirs))
        lengths = np.sqrt(own.diagonal()[rows].clip(0) * theirs.diagonal()[partners].clip(0))
        return float((between[rows, partners] / np.maximum(lengths, 1e-12)).sum())


def _centred(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inner products of rows less their mean, of both sides, by those of the rows themselves."""
    return products - products.mean(axis=0) - products.mean(axis=1, keepdims=True) + products.mean()
