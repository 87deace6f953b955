"""The record in an LMDB that MMF and ViLBERT's multi-task code (12-in-1) read alike: a pickled dict of both's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from region_features.formats.pickles import PORTABLE_ARRAYS, dump_portable, load_restricted
from region_features.records.key import lmdb_key
from region_features.records.region_record import RegionRecord

# MMF's names of arrays that imported records may lack -> those of the record.
_FIELDS = {"objects": "objects_id", "cls_prob": "cls_prob"}


def encode_mmf(record: RegionRecord) -> bytes:
    """Return a pickled dict of MMF's fields, then of ViLBERT's; an array that has two names is stored once.

    `objects` and `cls_prob` are left out where the record has none.
    """
    known = {name: getattr(record, field) for name, field in _FIELDS.items() if not record.lacks(field)}
    return dump_portable(
        {
            "feature_path": record.img_id,
            "features": record.features,
            "image_height": record.img_h,
            "image_width": record.img_w,
            "num_boxes": record.num_boxes,
            **known,
            "bbox": record.boxes,
            "image_id": lmdb_key(record.img_id).decode(),
            "image_h": record.img_h,
            "image_w": record.img_w,
            "boxes": record.boxes,
        }
    )


def decode_mmf(data: bytes, source: str) -> Mapping[str, Any]:
    """Read the fields back by name; ValueError if the pickle is damaged, or asks for anything but arrays."""
    return load_restricted(data, dict, "a pickled dict of numbers, text and arrays", source, PORTABLE_ARRAYS)
