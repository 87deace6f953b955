"""The record in an LMDB of the form volta-arrays: VOLTA's pickled dict with arrays in place of base64 text.

Sizes and id stay the text that they are in VOLTA's own form.
"""

from __future__ import annotations

import numpy as np

from region_features.formats import REMEDY
from region_features.formats.fields import image_of, number_field, record_from_fields
from region_features.formats.pickles import PORTABLE_ARRAYS, dump_portable, load_restricted
from region_features.records.region_record import FIELD_NAMES, RegionRecord


def encode_arrays(record: RegionRecord) -> bytes:
    """Return a pickled plain dict of the thirteen fields in FIELD_NAMES order: four `str`, nine arrays.

    `classes` is the same array as `cls_prob`, so the pickle stores it once. Plain `pickle.loads` reads it wherever
    numpy is installed.
    """
    fields = {name: getattr(record, name) for name in FIELD_NAMES}
    return dump_portable({name: v if isinstance(v, np.ndarray) else str(v) for name, v in fields.items()})


def decode_arrays(data: bytes, source: str) -> RegionRecord:
    """Read a value back, bit for bit; a pickle that asks for anything but arrays of this form is refused.

    The record's arrays are read-only views of the pickle's bytes.

    Raises:
        ValueError: the data is no such pickle, or a field is missing or has not the type, dtype or shape it must have.
    """
    fields = load_restricted(data, dict, "a pickled dict of text and arrays", source, PORTABLE_ARRAYS)
    record = record_from_fields(fields, source)
    where = image_of(fields, source)
    count = number_field(fields, "num_boxes", where)
    if count != record.num_boxes:
        raise ValueError(f"{where}, field num_boxes: expected {record.num_boxes} as in boxes, got {count}; {REMEDY}")
    if fields.get("classes") is not fields["cls_prob"]:
        raise ValueError(f"{where}, field classes: expected the array of cls_prob, got another; {REMEDY}")
    return record
