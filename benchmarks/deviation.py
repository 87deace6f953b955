"""How far two detectors' regions of one image lie apart.

K: boxes of an image; D: feature width; C: classes with background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Proposals overlap by at most 0.7, so that two boxes over this are one proposal, moved by rounding.
_SAME_BOX = 0.9


class Described(Protocol):
    """Regions of an image: float32 boxes (K, 4), features (K, D) and cls_prob (K, C)."""

    @property
    def boxes(self) -> NDArray[np.float32]: ...  # noqa: D102

    @property
    def features(self) -> NDArray[np.float32]: ...  # noqa: D102

    @property
    def cls_prob(self) -> NDArray[np.float32]: ...  # noqa: D102


@dataclass(frozen=True)
class Deviation:
    """One image's, or that of several together.

    Attributes:
        same: share of images in which both kept the same boxes.
        found: share of the reference's boxes that the other kept too; the numbers below are of these.
        box: largest difference of a box, pixels.
        feature, probability: largest difference.
        relative: `feature` as a share of the image's largest feature.
        mean: mean difference of a feature as a share of the mean feature.
    """

    same: float
    found: float
    box: float
    feature: float
    probability: float
    relative: float
    mean: float


def overlaps(one: NDArray[np.float32], two: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of boxes (K, 4) and (L, 4), ends included: (K, L)."""
    low = np.maximum(one[:, None, :2], two[None, :, :2])
    high = np.minimum(one[:, None, 2:], two[None, :, 2:])
    inter = (high - low + 1).clip(0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1) for boxes in (one, two)]
    return inter / (areas[0][:, None] + areas[1][None, :] - inter)


def deviation(found: Described, reference: Described) -> Deviation:
    """Compares two descriptions of one image, rows matched by box, in whichever order they come."""
    shared = overlaps(reference.boxes, found.boxes)
    rows = np.flatnonzero(shared.max(axis=1, initial=0) >= _SAME_BOX)
    partners = shared[rows].argmax(axis=1) if len(rows) else rows

    def apart(name: str) -> NDArray[np.float32]:
        return np.abs(getattr(found, name)[partners] - getattr(reference, name)[rows])

    features, level = apart("features"), np.abs(reference.features)
    return Deviation(
        same=float(len(rows) == len(reference.boxes) == len(found.boxes)),
        found=len(rows) / len(reference.boxes),
        box=float(apart("boxes").max(initial=0)),
        feature=float(features.max(initial=0)),
        probability=float(apart("cls_prob").max(initial=0)),
        relative=float(features.max(initial=0) / level.max()),
        mean=float(features.mean() / level.mean()) if len(rows) else 0.0,
    )


def together(images: Sequence[Deviation]) -> Deviation:
    """Of several images: shares and `mean` are averages, the rest the largest."""
    return Deviation(
        same=float(np.mean([one.same for one in images])),
        found=float(np.mean([one.found for one in images])),
        box=max(one.box for one in images),
        feature=max(one.feature for one in images),
        probability=max(one.probability for one in images),
        relative=max(one.relative for one in images),
        mean=float(np.mean([one.mean for one in images])),
    )
