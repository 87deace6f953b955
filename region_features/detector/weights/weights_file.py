"""Read a weights file of any of the known formats; its first bytes, never its name, decide which it is.

Nothing here imports torch or runs a pickle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np

from region_features.detector.errors import WeightsError
from region_features.detector.weights.caffe_weights import read_caffe_weights
from region_features.detector.weights.messages import printable
from region_features.detector.weights.named_weights import named_weights
from region_features.detector.weights.restricted_pickle import model_arrays, unpickle
from region_features.detector.weights.safetensors_file import read_safetensors
from region_features.detector.weights.state import Arrays, Weights
from region_features.detector.weights.torch_file import LEGACY_MAGIC, read_torch_legacy, read_torch_zip
from region_features.formats.file_kind import HEAD_BYTES, kind_of

# ResNet-152 with its optimiser's state has 1 GB; the file is read into memory.
_LARGEST = 4 << 30
_KNOWN = "a .caffemodel, a detectron2 pickle, a torch .pth or .bin, or a .safetensors"
_IMAGE_REMEDY = "images are named by --images, and the network's file by --weights"


def read_weights(path: str | Path, name: str | None = None) -> Weights:
    """Read weights of any known format into one form.

    Args:
        path: local file.
        name: the file's name for the user, for errors; default the path.

    Returns:
        Weights with background first and Caffe's anchor order, whatever the file's own.

    Raises:
        WeightsError: the format is unknown, the file is cut short, a layer is missing, of the wrong shape or holds
            unusable numbers, or a pickle asks for anything but arrays; one line that names the file and the layer.
        OSError: the file cannot be read.
    """
    where = name or str(path)
    with np.errstate(all="ignore"):  # what a conversion makes of unusable numbers is refused below
        weights = _read_any_format(path, where)
    _check_numbers(weights.state, where)
    return weights


def _read_any_format(path: str | Path, where: str) -> Weights:
    with open(path, "rb") as stream:
        head = stream.read(HEAD_BYTES)
        size = stream.seek(0, 2)
    _refuse_other_file(head, where, _KNOWN)
    if not 0 < size <= _LARGEST:
        raise WeightsError(f"{where}: expected {_KNOWN}, got {size} bytes")
    read = _checkpoint_reader(head)
    if read:
        weights, converted = named_weights(read(Path(path).read_bytes(), where), where)
        torch_format = "huggingface-bin" if converted else "bua-pth"
        return replace(weights, format="detectron2-pickle" if read is _read_pickle else torch_format)
    if head[4:8] == bytes(4) and head[8:10] == b'{"':
        arrays, metadata = read_safetensors(path, where)
        weights, _ = named_weights(arrays, where)
        return replace(weights, format="safetensors", metadata=metadata)
    return read_caffe_weights(path, where)


def _refuse_other_file(head: bytes, where: str, expected: str) -> None:
    kind = kind_of(head)
    if kind:
        remedy = f"; {_IMAGE_REMEDY}" if kind.endswith(" image") else ""
        raise WeightsError(f"{where}: expected {expected}, got {kind}{remedy}")
    if not head:
        raise WeightsError(f"{where}: expected {expected}, got an empty file; copy it again")


def read_checkpoint(path: str | Path, name: str | None = None) -> Arrays:
    """Return the named arrays of a checkpoint, `.pkl` or `.pth`; its content, not its name, decides which it is.

    Args:
        path: local file.
        name: the file's name for the user, for errors; default the path.

    Raises:
        WeightsError: the file is of another kind or cut short, its pickle asks for anything but arrays, or an array
            holds unusable numbers.
        OSError: the file cannot be read.
    """
    where = name or str(path)
    data = Path(path).read_bytes()
    _refuse_other_file(data[:HEAD_BYTES], where, "a detectron2 checkpoint (.pkl or .pth)")
    read = _checkpoint_reader(data[:HEAD_BYTES])
    if not read:
        raise WeightsError(
            f"{where}: expected a detectron2 checkpoint (.pkl or .pth), since --detector_config is given, got another "
            "kind of file; leave --detector_config out for bottom-up attention's network"
        )
    arrays = read(data, where)
    _check_numbers(arrays, where)
    return arrays


def _check_numbers(arrays: Arrays, where: str) -> None:
    """Raise a WeightsError for numbers that are not finite, and for a variance below zero: its square root is taken."""
    for name, array in arrays.items():
        place = f"{where}, layer {printable(name)}"
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            nans, infinite = np.count_nonzero(np.isnan(array)), np.count_nonzero(np.isinf(array))
            raise WeightsError(
                f"{place}: expected finite numbers, got {nans} NaN and {infinite} infinite of {array.size}; copy the "
                "file again, or take the weights from before the training diverged"
            )
        if name.endswith("running_var") and array.size and array.min() < 0:
            raise WeightsError(
                f"{place}: expected variances of at least 0, got {array.min():g}; the file is damaged, copy it again"
            )


def _read_pickle(data: bytes, where: str) -> Arrays:
    return model_arrays(unpickle(BytesIO(data), where), where)


def _checkpoint_reader(head: bytes) -> Callable[[bytes, str], Arrays] | None:
    """Return the reader of a checkpoint by its first bytes, None for another file."""
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return read_torch_zip
    if head.startswith(LEGACY_MAGIC):
        return read_torch_legacy
    # Protocols 2 to 5 name themselves; older pickles begin with a dict, a list, a mark or a global.
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or head[:1] in (b"(", b"}", b"]", b"c"):
        return _read_pickle
    return None
