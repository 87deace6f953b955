"""TSV rows of six columns, as bottom-up attention's authors published their features; width comes before height."""

from __future__ import annotations

import numpy as np
import pybase64

from region_features.records.key import lmdb_key
from region_features.records.region_record import RegionRecord

SIX_COLUMNS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")


def six_column_id(img_id: str) -> str:
    """Return what stands in the column `image_id`: the number at the end of an image's id, else the whole id."""
    return lmdb_key(img_id).decode()


def encode_six_columns(record: RegionRecord) -> bytes:
    """Return one line with its end: SIX_COLUMNS, the arrays as base64 of their raw little-endian bytes."""
    sizes = (record.img_w, record.img_h, record.num_boxes)
    arrays = [
        pybase64.b64encode_as_string(np.ascontiguousarray(array).data) for array in (record.boxes, record.features)
    ]
    cells = (six_column_id(record.img_id), *map(str, sizes), *arrays)
    return ("\t".join(cells) + "\n").encode()
