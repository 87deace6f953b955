"""npz and npy files as others write them, read without pickle."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from region_features.formats import REMEDY


def decode_file(data: bytes, source: str) -> Mapping[str, Any]:
    """Read the arrays of an npz or npy file by name; ValueError if it is damaged or holds pickled objects."""
    try:
        content = np.load(io.BytesIO(data), allow_pickle=False)
        return {"array": content} if isinstance(content, np.ndarray) else {name: content[name] for name in content}
    except Exception as error:  # whatever the zip archive or the header stumbles on
        raise ValueError(f"{source}: expected the bytes of an npz or npy file, got {error!r}; {REMEDY}") from error
