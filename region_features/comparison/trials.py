"""How were the pictures of a record prepared? Each way is tried with the network on the record's own boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from region_features.comparison.image import compare_records
from region_features.comparison.resize import RULES, scale_of
from region_features.comparison.verdict import PIXELS, PRECISION, SWAPPED, Verdict
from region_features.detector.preprocess import LONG_SIDE, PIXEL_MEANS, SHORT_SIDE
from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import RegionRecord

Means = tuple[float, float, float]
_DETECTRON2_MEANS: Means = (103.53, 116.28, 123.675)
_GREY: Means = (127.5, 127.5, 127.5)
_NONE: Means = (0.0, 0.0, 0.0)
_ORIGINAL_SIZE = (SHORT_SIDE, LONG_SIDE)
_FITS = 0.05  # of the spread: rounding gives less
_CLEARLY = 3.0  # times nearer than the other side's way


class Network(Protocol):
    """A detector that describes given boxes, such as `Detector`."""

    def detect(self, images: Sequence[PreparedImage]) -> Sequence[RegionRecord | Exception]:
        """Return a record an image, or why there is none."""
        ...


@dataclass(frozen=True)
class Way:
    """A way to prepare a picture: order of the channels, means in that order, short and long side when resized."""

    channels: str
    means: Means
    size: tuple[int, int]

    def __str__(self) -> str:
        means = ", ".join(f"{mean:g}" for mean in self.means)
        return f"{self.channels}, means {means}, resized to {self.size[0]}/{self.size[1]}"

    def prepare(self, img_id: str, image: NDArray[np.uint8]) -> PreparedImage:
        """Prepare an image, uint8 (H, W, 3) BGR, as the network would have got it."""
        height, width = image.shape[:2]
        scale = scale_of(height, width, *self.size)
        pixels = image if self.channels == "BGR" else image[:, :, ::-1]
        centred = (pixels - np.array(self.means)).astype(np.float32)
        cv2.ipp.setUseIPP(False)  # as in `region_features.detector.preprocess.prepare`
        resized = cv2.resize(centred, None, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        return PreparedImage(img_id, height, width, scale, np.asarray(resized, np.float32))


def ways() -> list[Way]:
    """Return the ways that are tried: the original one first, then other channels and means, then other sizes."""
    means = [PIXEL_MEANS, PIXEL_MEANS[::-1], _DETECTRON2_MEANS, _DETECTRON2_MEANS[::-1], _GREY, _NONE]
    pixels = [Way(channels, mean, _ORIGINAL_SIZE) for channels in ("BGR", "RGB") for mean in means]
    return pixels + [Way("BGR", PIXEL_MEANS, size) for size in RULES if size != _ORIGINAL_SIZE]


def errors_of(network: Network, record: RegionRecord, image: NDArray[np.uint8]) -> Mapping[Way, float]:
    """Return, for each way, how far the features of the record's boxes are from the record's, as a share of the spread.

    Infinite where the network fails.

    Raises:
        ValueError: the record has no boxes, or is of an image of another size.
    """
    height, width = image.shape[:2]
    if not record.num_boxes or (record.img_h, record.img_w) != (height, width):
        got = f"{record.num_boxes} boxes of one of {record.img_w} x {record.img_h}"
        raise ValueError(f"image {record.img_id}: expected boxes of an image of {width} x {height} pixels, got {got}")
    tried = ways()
    prepared = [replace(way.prepare(record.img_id, image), boxes=np.array(record.boxes)) for way in tried]
    errors = {}
    for way, result in zip(tried, network.detect(prepared), strict=True):
        error = compare_records(record, result).same_error if isinstance(result, RegionRecord) else np.inf
        errors[way] = float(error)
    return errors


@dataclass(frozen=True)
class Trial:
    """The median errors of the ways over some images."""

    errors: Mapping[Way, float]
    images: int

    @classmethod
    def of(cls, images: Sequence[Mapping[Way, float]]) -> Trial:
        """Put the errors of images together."""
        return cls({way: float(np.median([image[way] for image in images])) for way in ways()}, len(images))

    @property
    def best(self) -> Way:
        """The way that fits best."""
        return min(self.errors, key=lambda way: self.errors[way])

    @property
    def fits(self) -> bool:
        """Whether it fits but for rounding."""
        return self.errors[self.best] <= _FITS

    def __str__(self) -> str:
        error = f"to {self.errors[self.best]:.1e} of the spread between boxes"
        if self.fits:
            return f"was prepared as {self.best}: fits {error}"
        return f"fits none of {len(self.errors)} ways with these weights; the nearest, {self.best}, {error}"


def settle(verdict: Verdict, one: Trial, other: Trial) -> Verdict:
    """Return the verdict with what the trials of A and B found; where they name the cause, with that one alone."""
    reasons = (*verdict.reasons, f"tried on {one.images} images: A {one}", f"B {other}")
    differ = one.fits and other.fits and one.errors[one.best] * _CLEARLY < one.errors[other.best]
    if not differ or verdict.causes[0] not in (PRECISION, SWAPPED, PIXELS):
        return Verdict(verdict.causes, reasons)
    return Verdict((SWAPPED if one.best.channels != other.best.channels else PIXELS,), reasons)
