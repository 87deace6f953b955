"""Read the checkpoints of any detectron2 network, without torch."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from region_features.detector.errors import WeightsError
from region_features.detector.weights.restricted_pickle import model_arrays, unpickle
from region_features.detector.weights.torch_file import LEGACY_MAGIC, read_torch_legacy, read_torch_zip


def read_checkpoint(path: str | Path, name: str | None = None) -> dict[str, NDArray[Any]]:
    """Return the named arrays of a detectron2 checkpoint; its content tells `.pkl` and `.pth` apart.

    Args:
        path: local file.
        name: the file's name for the user, for errors; default the path.

    Raises:
        WeightsError: the file is of another kind or cut short, or its pickle asks for anything but arrays.
        OSError: the file cannot be read.
    """
    where = name or str(path)
    data = Path(path).read_bytes()
    if data.startswith(b"PK"):
        return read_torch_zip(data, where)
    if data.startswith(LEGACY_MAGIC):
        return read_torch_legacy(data, where)
    if data[:1] not in (b"\x80", b"(", b"}", b"]", b"c"):
        raise WeightsError(f"{where}: expected a detectron2 checkpoint (.pkl or .pth), got a file of another kind")
    return model_arrays(unpickle(BytesIO(data), where), where)
