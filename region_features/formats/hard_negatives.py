"""The two files of hard negatives: a pickle as VOLTA reads it, and an npz to read without unpickling.

N: images; P: columns of the pool.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.formats.pickles import dump_portable


def encode_pickle(pool: NDArray[np.int64], coco_ids: NDArray[Any]) -> bytes:
    """Return hard_negative.pkl, for numpy 1 and 2: a dict of an array (N, P) and a list of N int, or texts."""
    return dump_portable({"train_hard_pool": pool, "train_image_list": coco_ids.tolist()})


def encode_npz(pool: NDArray[np.int64], coco_ids: NDArray[Any]) -> bytes:
    """Return hard_negative.npz, read without pickle: the arrays (N, P) and (N,)."""
    stream = io.BytesIO()
    np.savez(stream, train_hard_pool=pool, train_image_list=coco_ids)
    return stream.getvalue()
