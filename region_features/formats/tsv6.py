"""TSV rows of six columns, as bottom-up attention's authors published their features; width comes before height."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pybase64

from region_features.formats.foreign_record import record_from_names
from region_features.records.key import lmdb_key
from region_features.records.region_record import RegionRecord

_WRAPPED = re.compile(r"""b(['"])(.*)\1""", re.DOTALL)
SIX_COLUMNS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")


def mend_base64(text: str) -> str:
    """Return base64 as it should be: old scripts wrapped it as `b'...'`, or padded it wrongly."""
    wrapped = _WRAPPED.fullmatch(text)
    bare = (wrapped[2] if wrapped else text).rstrip("=")
    return bare + "=" * (-len(bare) % 4)


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


def decode_six_columns(cells: Sequence[str], source: str) -> RegionRecord:
    """Read a row of six columns, split at its tabs; the arrays that it has not are missing.

    Base64 wrapped as `b'...'`, or with missing or excess padding, is accepted. `image_id` becomes the record's id.

    Raises:
        ValueError: the row is damaged; names the field.
    """
    fields: dict[str, object] = dict(zip(SIX_COLUMNS, cells, strict=True))
    img_id = str(fields["image_id"])
    for name in ("boxes", "features"):
        fields[name] = mend_base64(str(fields[name]))
    return record_from_names(fields, img_id, source)
