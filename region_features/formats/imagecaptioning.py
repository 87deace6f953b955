"""What ImageCaptioning.pytorch reads of an image: the bytes of an npz or npy file, in LMDBs of the package lmdbdict."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.formats.pickles import PROTOCOL
from region_features.records.region_record import RegionRecord

# How they are stored: three LMDBs, or as many files an image.
FORMS = LMDB_FORM, FILES_FORM = ("lmdb", "files")


def encode_att(record: RegionRecord) -> bytes:
    """Return an npz file with the features (boxes, width) as `feat`."""
    stream = io.BytesIO()
    np.savez(stream, feat=record.features)
    return stream.getvalue()


def encode_fc(record: RegionRecord) -> bytes:
    """Return an npy file with the mean of the features (width,), zeros for an image without boxes."""
    features = record.features
    return _npy(features.mean(axis=0) if record.num_boxes else np.zeros(features.shape[1], np.float32))


def encode_box(record: RegionRecord) -> bytes:
    """Return an npy file with the boxes (boxes, 4) in pixels."""
    return _npy(record.boxes)


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def lmdbdict_records(keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
    """Return the records by which lmdbdict knows the keys, and that keys are ASCII and values bytes as they are."""
    # lmdbdict pickles a set, whose order differs from run to run; it only asks whether a key is in it.
    known = dict.fromkeys(key.decode() for key in keys)
    methods = {"key": "ascii", "value": "identity"}
    return {b"__keys__": pickle.dumps(known, PROTOCOL)} | {
        f"__{part}_{action}__".encode(): pickle.dumps(method, PROTOCOL)
        for part, method in methods.items()
        for action in ("dumps", "loads")
    }
