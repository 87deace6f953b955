"""Pickles with arrays that Python 3.6 and numpy 1 load as well as those of today."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PICKLE_PROTOCOL = 4  # the newest that Python 3.6, VOLTA's own, can load


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


def dump_portable(value: object) -> bytes:
    """Pickles plain containers with arrays in them; an array is `numpy.array(numpy.ndarray(shape, dtype, bytes))`."""
    stream = io.BytesIO()
    _PortablePickler(stream, PICKLE_PROTOCOL).dump(value)
    return stream.getvalue()
