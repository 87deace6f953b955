"""`.safetensors`: read with its own library, written here so that the same weights always give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.detector.errors import WeightsError

LAYOUT_KEY = "layout"
LAYOUT = "region-features-1"


def read_safetensors(path: str | Path, where: str) -> tuple[dict[str, NDArray[Any]], Mapping[str, str]]:
    """Every array by name, and the file's metadata.

    Args:
        path: local file.
        where: the file's name, for errors.

    Raises:
        WeightsError: damaged, or written for another layout than this one.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError) as error:  # TypeError: numpy lacks the type, bfloat16 for one
        raise WeightsError(
            f"{where}: expected a whole .safetensors file of float32, got one that is cut short, damaged or of another "
            f"type ({error}); copy it or convert it again"
        ) from error
    layout = metadata.get(LAYOUT_KEY, LAYOUT)
    if layout != LAYOUT:
        raise WeightsError(f"{where}: expected layout {LAYOUT}, got {layout}; convert it with this version")
    return arrays, metadata


def encode_safetensors(state: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str]) -> Iterator[bytes]:
    """A file's bytes in pieces; the library's writer orders the metadata by chance, this one by name.

    Args:
        state: name -> float32 array.
        metadata: what the file says of itself, LAYOUT added.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted({**metadata, LAYOUT_KEY: LAYOUT}.items()))}
    end = 0
    for name, array in sorted(state.items()):
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers are aligned
    yield len(text).to_bytes(8, "little") + text
    for _, array in sorted(state.items()):
        yield np.ascontiguousarray(array, "<f4").tobytes()
