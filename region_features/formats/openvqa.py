"""Files of MCAN and OpenVQA: an npz an image, its features transposed.

K: boxes of the image; D: feature width. OpenVQA turns `x` as it reads it; MILVLG's own extraction script writes it the
other way round, and what reads those files transposes nothing.
"""

from __future__ import annotations

import io

import numpy as np

from region_features.formats.foreign_record import record_from_names
from region_features.formats.npz import decode_file
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


def decode_openvqa(data: bytes, img_id: str, source: str) -> RegionRecord:
    """Read a file back; `x` may be turned either way, as its number of boxes tells. Other fields are passed over.

    Raises:
        ValueError: the npz is damaged, or a field is missing or of another shape; names the source.
    """
    fields = decode_file(data, source, ("x", "bbox", "image_h", "image_w", "num_bbox"))
    boxes, turned = fields.get("bbox"), fields.get("x")
    if isinstance(boxes, np.ndarray) and isinstance(turned, np.ndarray) and turned.ndim == 2:
        turned = turned.T if turned.shape[1] == len(boxes) else turned
    count = fields.get("num_bbox", len(boxes) if isinstance(boxes, np.ndarray) else None)
    return record_from_names({**fields, "features": turned, "num_boxes": count}, img_id, source)
