"""Comparison of a checkpoint's named arrays with the state of a detectron2 network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from region_features.detector.errors import WeightsError

Arrays = Mapping[str, NDArray[Any]]
_COUNTER = ".num_batches_tracked"


def state_for(network: nn.Module, arrays: Arrays, where: str) -> dict[str, Tensor]:
    """Return the arrays of a network's state by name; other arrays of the checkpoint are ignored.

    Args:
        network: on any device, `meta` included.
        arrays: a checkpoint's.
        where: the file's name, for errors.

    Raises:
        WeightsError: some are missing or of another shape.
    """
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items() if not name.endswith(_COUNTER)}
    missing = [name for name in shapes if name not in arrays]
    if missing:
        examples = ", ".join(sorted(arrays)[:3])
        raise WeightsError(
            f"{where}: {len(missing)} of the {len(shapes)} arrays of the config's network are missing, {missing[0]} "
            f"for one; got {len(arrays)} arrays such as {examples}; are config and weights of one network?"
        )
    state = {}
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype.kind != "f":
            raise WeightsError(
                f"{where}, layer {name}: the config asks for floats of shape {shape}, got {array.dtype} of "
                f"{array.shape}; are config and weights of one network?"
            )
        state[name] = torch.from_numpy(np.array(array, np.float32))
    return state
