"""Rounding to float16."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_float16(array: NDArray[Any], where: str, remedy: str) -> NDArray[np.float16]:
    """Round to the nearest; a value too large for float16 is a ValueError, with place, largest value and remedy."""
    with np.errstate(over="ignore"):
        half = array.astype("<f2")
    if np.count_nonzero(np.isinf(half)) != np.count_nonzero(np.isinf(array)):
        raise ValueError(
            f"{where}: expected values within {np.finfo(np.float16).max:.0f} of zero, as float16 holds, got "
            f"{np.abs(array).max():g}; {remedy}"
        )
    return half
