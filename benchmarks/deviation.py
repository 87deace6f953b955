"""Deviation between two detectors' regions of one image.

K: boxes of an image; D: feature width; C: classes with background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Proposals overlap by at most 0.7: two boxes that overlap by more than this are one proposal, moved by rounding.
_SAME_BOX = 0.9


class Regions(Protocol):
    """Regions of an image: float32 boxes (K, 4), features (K, D) and cls_prob (K, C)."""

    @property
    def boxes(self) -> NDArray[np.float32]: ...  # noqa: D102

    @property
    def features(self) -> NDArray[np.float32]: ...  # noqa: D102

    @property
    def cls_prob(self) -> NDArray[np.float32]: ...  # noqa: D102


@dataclass(frozen=True)
class Deviation:
    """Deviation of one image, or of several together.

    Attributes:
        same_boxes: share of images in which both kept the same boxes.
        kept: share of the reference's boxes that the other kept too; the numbers below are of these.
        box: largest difference of a box, pixels.
        feature, probability: largest difference.
        relative: `feature` as a share of the image's largest feature.
        mean: mean difference of a feature as a share of the mean feature.
    """

    same_boxes: float
    kept: float
    box: float
    feature: float
    probability: float
    relative: float
    mean: float


def overlaps(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the IoU of boxes (K, 4) with others (L, 4), ends included: (K, L)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inter = (high - low + 1).clip(0).prod(axis=2)
    areas = [(corners[:, 2:] - corners[:, :2] + 1).prod(axis=1) for corners in (boxes, others)]
    return inter / (areas[0][:, None] + areas[1][None, :] - inter)


def deviation(regions: Regions, reference: Regions) -> Deviation:
    """Compare the regions of one image; rows are matched by box, whatever their order."""
    shared = overlaps(reference.boxes, regions.boxes)
    rows = np.flatnonzero(shared.max(axis=1, initial=0) >= _SAME_BOX)
    partners = shared[rows].argmax(axis=1) if len(rows) else rows

    def difference(name: str) -> NDArray[np.float32]:
        return np.abs(getattr(regions, name)[partners] - getattr(reference, name)[rows])

    features, level = difference("features"), np.abs(reference.features)
    return Deviation(
        same_boxes=float(len(rows) == len(reference.boxes) == len(regions.boxes)),
        kept=len(rows) / len(reference.boxes),
        box=float(difference("boxes").max(initial=0)),
        feature=float(features.max(initial=0)),
        probability=float(difference("cls_prob").max(initial=0)),
        relative=float(features.max(initial=0) / level.max()),
        mean=float(features.mean() / level.mean()) if len(rows) else 0.0,
    )


def together(images: Sequence[Deviation]) -> Deviation:
    """Combine the deviations of several images: shares and `mean` are averages, the rest the largest."""
    return Deviation(
        same_boxes=float(np.mean([image.same_boxes for image in images])),
        kept=float(np.mean([image.kept for image in images])),
        box=max(image.box for image in images),
        feature=max(image.feature for image in images),
        probability=max(image.probability for image in images),
        relative=max(image.relative for image in images),
        mean=float(np.mean([image.mean for image in images])),
    )
