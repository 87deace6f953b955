"""Boxes that a user gives for an image in place of the network's own proposals. B: boxes of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from region_features.records.failure import ImageFailure

STAGE = "boxes"


@dataclass(frozen=True, eq=False)
class GivenBoxes:
    """The given boxes of one image."""

    img_id: str  # file stem
    boxes: NDArray[np.float32]  # (B, 4), x1, y1, x2, y2 in pixels of the original image; empty if there is a problem
    problem: str = ""  # why the boxes cannot be used, whatever the image; empty if they can


def no_boxes(img_id: str, problem: str = "no boxes given") -> GivenBoxes:
    """Return the GivenBoxes of an image whose boxes are missing or bad."""
    return GivenBoxes(img_id, np.empty((0, 4), np.float32), problem)


def describe_bad_boxes(indices: Sequence[int], problem: str) -> str:
    """Name the first of several bad boxes with its problem, and count the others."""
    others = f" (and {len(indices) - 1} more of its boxes)" if len(indices) > 1 else ""
    return f"box {indices[0]}: {problem}{others}"


def check_inside(given: GivenBoxes, height: int, width: int) -> NDArray[np.float32]:
    """Return the boxes (B, 4) if they can be used and lie within the image, whose height and width are in pixels.

    Raises:
        ImageFailure: stage `boxes`; the reason names the first bad box and its problem.
    """
    if given.problem:
        raise ImageFailure(STAGE, given.problem)
    boxes = given.boxes
    outside = np.flatnonzero((boxes[:, :2] < 0).any(axis=1) | (boxes[:, 2] > width) | (boxes[:, 3] > height)).tolist()
    if outside:
        problem = f"{boxes[outside[0]].tolist()} lies outside the image of {width} x {height} pixels; clip it"
        raise ImageFailure(STAGE, describe_bad_boxes(outside, problem))
    return boxes
