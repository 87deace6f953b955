"""Reads a weights file of any of the known formats; which it is, its first bytes say, never its name."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

from region_features.detector.errors import WeightsError
from region_features.detector.weights.caffe_weights import read_caffe_weights
from region_features.detector.weights.named_weights import named_weights
from region_features.detector.weights.restricted_pickle import model_arrays, unpickle
from region_features.detector.weights.safetensors_file import read_safetensors
from region_features.detector.weights.state import Weights
from region_features.detector.weights.torch_file import LEGACY_MAGIC, read_torch_legacy, read_torch_zip

# ResNet-152 with its optimiser's state has 1 GB; the file is read into memory.
_LARGEST = 4 << 30
_KNOWN = "a .caffemodel, a detectron2 pickle, a torch .pth or .bin, or a .safetensors"
# What a download gives where the file itself was meant.
_OTHER_THINGS = (
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "XML, which servers send in place of a file"),
    (b"version https://git-lfs", "a git-lfs pointer: fetch the file itself"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
)


def _container(head: bytes) -> str:
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "torch-zip"
    if head.startswith(LEGACY_MAGIC):
        return "torch-legacy"
    # Protocols 2 to 5 say so; the older ones begin with a dict, a list, a mark or a global.
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or head[:1] in (b"(", b"}", b"]", b"c"):
        return "pickle"
    if head[4:8] == bytes(4) and head[8:10] == b'{"':
        return "safetensors"
    return "caffemodel"


def read_weights(path: str | Path, name: str | None = None) -> Weights:
    """Reads weights of any known format into one form; without torch.

    Args:
        path: local file.
        name: what the user calls the file, for errors; default the path.

    Returns:
        Weights with background first and Caffe's anchor order, whatever the file's own.

    Raises:
        WeightsError: not a known format, cut short, a layer missing or of the wrong shape, or a pickle that asks for
            anything but arrays; one line that names the file and the layer.
        OSError: the file cannot be read.
    """
    where = name or str(path)
    with open(path, "rb") as stream:
        head = stream.read(len(LEGACY_MAGIC) + 16)
        size = stream.seek(0, 2)
    for start, what in _OTHER_THINGS:
        if head.lstrip().lower().startswith(start):
            raise WeightsError(f"{where}: expected {_KNOWN}, got {what}")
    if not 0 < size <= _LARGEST:
        raise WeightsError(f"{where}: expected {_KNOWN}, got {size} bytes")
    container = _container(head)
    if container == "caffemodel":
        return read_caffe_weights(path, where)
    if container == "safetensors":
        arrays, metadata = read_safetensors(path, where)
        weights, _ = named_weights(arrays, where)
        return replace(weights, format="safetensors", metadata=metadata)
    data = Path(path).read_bytes()
    if container == "pickle":
        weights, _ = named_weights(model_arrays(unpickle(BytesIO(data), where), where), where)
        return replace(weights, format="detectron2-pickle")
    arrays = read_torch_zip(data, where) if container == "torch-zip" else read_torch_legacy(data, where)
    weights, converted = named_weights(arrays, where)
    return replace(weights, format="huggingface-bin" if converted else "bua-pth")
