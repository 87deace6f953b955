"""Files of MCAN and OpenVQA: an npz an image, its features transposed.

K: boxes of the image; D: feature width. OpenVQA turns `x` as it reads it; MILVLG's own extraction script writes it the
other way round, and what reads those files transposes nothing.
"""

from __future__ import annotations

import io

import numpy as np

from region_features.records.region_record import RegionRecord


def encode_openvqa(record: RegionRecord) -> bytes:
    """Return an npz of `x` (D, K), `bbox` (K, 4) in pixels, `image_h`, `image_w` and `num_bbox`; the same each time."""
    stream = io.BytesIO()
    np.savez(
        stream,
        x=np.ascontiguousarray(record.features.T),
        bbox=record.boxes,
        image_h=np.int64(record.img_h),
        image_w=np.int64(record.img_w),
        num_bbox=np.int64(record.num_boxes),
    )
    return stream.getvalue()
