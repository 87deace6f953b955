"""Read a weights file of any of the known formats; its first bytes, never its name, decide which it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from region_features.detector.errors import WeightsError
from region_features.detector.weights.caffe_weights import read_caffe_weights
from region_features.detector.weights.checkpoint_file import HEAD_BYTES, PICKLE, checkpoint_kind, read_checkpoint
from region_features.detector.weights.named_weights import named_weights
from region_features.detector.weights.safetensors_file import read_safetensors
from region_features.detector.weights.state import Weights

# ResNet-152 with its optimiser's state has 1 GB; the file is read into memory.
_LARGEST = 4 << 30
_KNOWN = "a .caffemodel, a detectron2 pickle, a torch .pth or .bin, or a .safetensors"
# Files that a download may leave in place of weights.
_OTHER_FILES = (
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "XML, which servers send in place of a file"),
    (b"version https://git-lfs", "a git-lfs pointer: fetch the file itself"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
)


def read_weights(path: str | Path, name: str | None = None) -> Weights:
    """Read weights of any known format into one form.

    Args:
        path: local file.
        name: the file's name for the user, for errors; default the path.

    Returns:
        Weights with background first and Caffe's anchor order, whatever the file's own.

    Raises:
        WeightsError: the format is unknown, the file is cut short, a layer is missing or of the wrong shape, or a
            pickle asks for anything but arrays; one line that names the file and the layer.
        OSError: the file cannot be read.
    """
    where = name or str(path)
    with open(path, "rb") as stream:
        head = stream.read(HEAD_BYTES + 16)
        size = stream.seek(0, 2)
    for start, content in _OTHER_FILES:
        if head.lstrip().lower().startswith(start):
            raise WeightsError(f"{where}: expected {_KNOWN}, got {content}")
    if not 0 < size <= _LARGEST:
        raise WeightsError(f"{where}: expected {_KNOWN}, got {size} bytes")
    kind = checkpoint_kind(head)
    if kind:
        weights, converted = named_weights(read_checkpoint(path, where), where)
        torch_format = "huggingface-bin" if converted else "bua-pth"
        return replace(weights, format="detectron2-pickle" if kind == PICKLE else torch_format)
    if head[4:8] == bytes(4) and head[8:10] == b'{"':
        arrays, metadata = read_safetensors(path, where)
        weights, _ = named_weights(arrays, where)
        return replace(weights, format="safetensors", metadata=metadata)
    return read_caffe_weights(path, where)
