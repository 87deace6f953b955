"""The hard negatives' two files: a pickle for the consumers there are, an npz for those that unpickle nothing.

N: images; P: columns of the pool.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from region_features.formats.portable_pickle import dump_portable


def encode_pickle(pool: NDArray[np.int64], coco_ids: NDArray[np.int64]) -> bytes:
    """hard_negative.pkl's content, which numpy 1 and 2 read: a dict of an array (N, P) and a list of N int."""
    return dump_portable({"train_hard_pool": pool, "train_image_list": coco_ids.tolist()})


def encode_npz(pool: NDArray[np.int64], coco_ids: NDArray[np.int64]) -> bytes:
    """hard_negative.npz's content, read without pickle: the arrays (N, P) and (N,)."""
    stream = io.BytesIO()
    np.savez(stream, train_hard_pool=pool, train_image_list=coco_ids)
    return stream.getvalue()
