"""Weights as a `.safetensors` file in this project's layout: the state's arrays by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from region_features.detector.errors import WeightsError
from region_features.detector.weights.messages import printable, reason_of
from region_features.formats.safetensors import LAYOUT_KEY, encode_safetensors

LAYOUT = "region-features-1"


def read_safetensors(path: str | Path, where: str) -> tuple[dict[str, NDArray[Any]], Mapping[str, str]]:
    """Return every array by name, and the file's metadata.

    Args:
        path: local file.
        where: the file's name, for errors.

    Raises:
        WeightsError: the file is damaged, or of another layout than this one.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError) as error:  # TypeError: numpy lacks the type, bfloat16 for one
        raise WeightsError(
            f"{where}: expected a whole .safetensors file of float32, got one that is cut short, damaged or of another "
            f"type ({reason_of(error)}); copy it or convert it again"
        ) from error
    layout = metadata.get(LAYOUT_KEY, LAYOUT)
    if layout != LAYOUT:
        raise WeightsError(f"{where}: expected layout {LAYOUT}, got {printable(layout)}; convert it with this version")
    return arrays, metadata


def encode_weights(state: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str]) -> Iterator[bytes]:
    """Yield a file's bytes in pieces, the same for the same weights.

    Args:
        state: name -> float32 array.
        metadata: what the file says of itself; the layout is added.
    """
    return encode_safetensors(state, {**metadata, LAYOUT_KEY: LAYOUT})
