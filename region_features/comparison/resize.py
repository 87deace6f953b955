"""The size that images had when boxes were proposed, read from boxes that end at an image's right or lower edge.

The original clips its proposals to the resized image and divides them by the scale, so that such a box ends at
(round(side * scale) - 1) / scale exactly; detectron2 clips to the side itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from region_features.records.region_record import RegionRecord

# A box that ends within so many pixels of the edge is taken for a clipped one: no known rule ends earlier.
_TOUCHING = 3.0
# float32 division; a scale that differs in its second digit moves the end by more.
EDGE_TOLERANCE = 0.02  # pixels

WHOLE_SIDE, LAST_PIXEL = "boxes clipped to the image's side", "boxes clipped to the image's last pixel"
# Short and long side: of the original, of detectron2's configs, and between.
RULES = ((600, 1000), (800, 1333), (600, 1333), (480, 800), (640, 1067), (800, 1000))


class Edges(NamedTuple):
    """The farthest x2 and y2 of an image's boxes; NaN where no box comes near the edge."""

    right: float
    lower: float


def edges_of(record: RegionRecord) -> Edges:
    """Return where the boxes of an image end that touch its right and lower edge."""
    ends = []
    for column, side in ((2, record.img_w), (3, record.img_h)):
        end = float(record.boxes[:, column].max(initial=-np.inf))
        ends.append(end if abs(side - end) <= _TOUCHING else np.nan)
    return Edges(*ends)


def scale_of(height: int, width: int, short: int, long: int) -> float:
    """Return the factor that makes the short side `short`, or the long side `long` if it would exceed `long`."""
    scale = short / min(height, width)
    return long / max(height, width) if np.round(scale * max(height, width)) > long else scale


def expected_edges(height: int, width: int) -> Mapping[str, Edges]:
    """Return, for each known rule by its name (`resized to 600/1000`), where boxes at an image's edges end."""
    expected = {}
    for short, long in RULES:
        scale = scale_of(height, width, short, long)
        expected[f"resized to {short}/{long}"] = Edges(
            *((np.round(side * scale) - 1) / scale for side in (width, height))
        )
    expected[LAST_PIXEL] = Edges(width - 1, height - 1)
    expected[WHOLE_SIDE] = Edges(width, height)
    return expected


def count_fits(record: RegionRecord) -> dict[str, int]:
    """Count the edges of an image, 0 to 2, at which boxes end as each known rule says."""
    found = edges_of(record)
    return {
        name: sum(abs(end - there) <= EDGE_TOLERANCE for end, there in zip(found, ends, strict=True))
        for name, ends in expected_edges(record.img_h, record.img_w).items()
    }
