"""Read pickles and files of torch.save as named arrays, without torch and without running what they pickle."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from region_features.detector.errors import WeightsError
from region_features.detector.weights.restricted_pickle import model_arrays, unpickle
from region_features.detector.weights.torch_file import LEGACY_MAGIC, read_torch_legacy, read_torch_zip

TORCH_ZIP, TORCH_LEGACY, PICKLE = "torch-zip", "torch-legacy", "pickle"
HEAD_BYTES = len(LEGACY_MAGIC)  # these many tell the kinds apart


def checkpoint_kind(head: bytes) -> str | None:
    """Return the kind of a checkpoint by its first HEAD_BYTES bytes, None for another file."""
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return TORCH_ZIP
    if head.startswith(LEGACY_MAGIC):
        return TORCH_LEGACY
    # Protocols 2 to 5 name themselves; older pickles begin with a dict, a list, a mark or a global.
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or head[:1] in (b"(", b"}", b"]", b"c"):
        return PICKLE
    return None


def read_checkpoint(path: str | Path, name: str | None = None) -> dict[str, NDArray[Any]]:
    """Return the named arrays of a checkpoint, `.pkl` or `.pth`; its content, not its name, decides which it is.

    Args:
        path: local file.
        name: the file's name for the user, for errors; default the path.

    Raises:
        WeightsError: the file is of another kind or cut short, or its pickle asks for anything but arrays.
        OSError: the file cannot be read.
    """
    where = name or str(path)
    data = Path(path).read_bytes()
    kind = checkpoint_kind(data[:HEAD_BYTES])
    if kind == TORCH_ZIP:
        return read_torch_zip(data, where)
    if kind == TORCH_LEGACY:
        return read_torch_legacy(data, where)
    if kind == PICKLE:
        return model_arrays(unpickle(BytesIO(data), where), where)
    raise WeightsError(f"{where}: expected a detectron2 checkpoint (.pkl or .pth), got a file of another kind")
