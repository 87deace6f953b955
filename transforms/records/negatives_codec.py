"""The hard negatives' two files: a pickle for the consumers there are, an npz for those that unpickle nothing.

N: images; P: columns of the pool.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PROTOCOL = 4  # the newest that the consumers' Python 3.6 reads


@dataclass(frozen=True, eq=False)
class _Raw:
    """An array as a read-only view of its bytes, of which np.array then makes one that can be written to."""

    array: NDArray[Any]


class _PortablePickler(pickle.Pickler):
    """Pickles arrays by numpy's public names: the private ones of numpy 2 are unknown to the consumers' numpy 1."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return np.array, (_Raw(value),)
        if isinstance(value, _Raw):
            return np.ndarray, (value.array.shape, value.array.dtype.str, value.array.tobytes())
        return NotImplemented


def encode_pickle(pool: NDArray[np.int64], coco_ids: NDArray[np.int64]) -> bytes:
    """hard_negative.pkl's content, which numpy 1 and 2 read: a dict of an array (N, P) and a list of N int."""
    stream = io.BytesIO()
    content = {"train_hard_pool": pool, "train_image_list": coco_ids.tolist()}
    _PortablePickler(stream, _PROTOCOL).dump(content)
    return stream.getvalue()


def encode_npz(pool: NDArray[np.int64], coco_ids: NDArray[np.int64]) -> bytes:
    """hard_negative.npz's content, read without pickle: the arrays (N, P) and (N,)."""
    stream = io.BytesIO()
    np.savez(stream, train_hard_pool=pool, train_image_list=coco_ids)
    return stream.getvalue()
