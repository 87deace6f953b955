"""npz and npy files as others write them, read without pickle."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from region_features.formats import REMEDY


def decode_file(data: bytes, source: str, names: Sequence[str] | None = None) -> Mapping[str, Any]:
    """Read the arrays of an npz or npy file by name, that of an npy as `array`.

    Args:
        data: the file's bytes.
        source: its name, for messages.
        names: of the arrays to read, as far as they are there; None for all.

    Raises:
        ValueError: the file is damaged, or one of these arrays is of pickled objects.
    """
    try:
        content = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {"array": content}
        arrays = {name: content[name] for name in content if names is None or name in names}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray):  # numpy gives the bytes of an entry that is no array
                raise ValueError(f"{name} that is no array")
        return arrays
    except Exception as error:  # whatever the zip archive or the header stumbles on
        raise ValueError(f"{source}: expected the bytes of an npz or npy file, got {error!r}; {REMEDY}") from error
