"""Boxes relative to their image, as UNITER and the bottom-up-attention VQA models take them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from region_features.records.region_record import RegionRecord


def relative_boxes(record: RegionRecord) -> NDArray[np.float32]:
    """Return (boxes, 6): x1/W, y1/H, x2/W, y2/H, w/W, h/H of an image of W x H pixels."""
    size = np.array([record.img_w, record.img_h], np.float32)
    first, last = record.boxes[:, :2] / size, record.boxes[:, 2:] / size
    return np.concatenate([first, last, (record.boxes[:, 2:] - record.boxes[:, :2]) / size], axis=1)
