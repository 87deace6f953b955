"""What a weights file calls its layers reaches the terminal escaped, cut, and behind the file's own name."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from region_features.detector import WeightsError
from region_features.detector.weights.caffemodel import NetParameter
from region_features.detector.weights.weights_file import read_weights
from tests.samples.weight_files import save

HOSTILE = "\x1b[31m\n" + "long" * 1000
NAMES = [HOSTILE, "\x07", "\u202e", "a\rb", "é"]


def message_of(path: Path) -> str:
    with pytest.raises(WeightsError) as raised:
        read_weights(path)
    message = str(raised.value)
    assert message.startswith(f"{path}:") or message.startswith(f"{path}, layer")
    assert message.isascii() and message.isprintable() and len(message) < len(str(path)) + 800
    return message


def write_pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content, 2))


def write_caffe_layer(path: Path, name: str, data: bytes, shape: list[int]) -> None:
    net = NetParameter()
    net.layer.add(name=name.encode("utf-8", "surrogatepass")).blobs.add(shape={"dim": shape}, data=[data])
    path.write_bytes(net.SerializeToString())


class Misshapen:
    """A float32 array of three numbers that claims a shape of its own."""

    def __init__(self, shape: object, data: object = bytes(12)) -> None:
        self.shape, self.data = shape, data

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, args, state = cast(Any, np.zeros(3, np.float32).__reduce__())
        return rebuild, args, (state[0], self.shape, state[2], False, self.data)


def write_global(path: Path, name: str) -> None:
    """Pickle a reference to a class that does not exist."""
    texts = [text.encode("utf-8", "surrogatepass") for text in ("module", name)]
    path.write_bytes(b"\x80\x04" + b"".join(b"X" + struct.pack("<I", len(text)) + text for text in texts) + b"\x93.")


WRITERS: dict[str, Callable[[Path, str], None]] = {
    "pickle-layer": lambda path, name: write_pickle(path, {name: np.zeros(3)}),
    "pickle-damaged-layer": lambda path, name: write_pickle(path, {name: Misshapen((4,))}),
    "pickle-shape": lambda path, name: write_pickle(path, {"x": Misshapen((name,))}),
    "pickle-key": lambda path, name: write_pickle(path, {name: 1}),
    "pickle-global": write_global,
    "torch-zip": lambda path, name: save({name: torch.zeros(3)}, path, zipped=True),
    "torch-legacy": lambda path, name: save({name: torch.zeros(3)}, path, zipped=False),
    "caffemodel": lambda path, name: write_caffe_layer(path, name, bytes(12), [3]),
    "caffemodel-damaged": lambda path, name: write_caffe_layer(path, name, bytes(12), [4]),
    "safetensors": lambda path, name: save_file({name: np.zeros(3, np.float32)}, path),
    "safetensors-layout": lambda path, name: save_file({"x": np.zeros(3, np.float32)}, path, {"layout": name}),
}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("kind", WRITERS)
def test_a_name_out_of_a_file_is_escaped_and_cut(tmp_path: Path, kind: str, name: str) -> None:
    WRITERS[kind](tmp_path / "w", name)
    message = message_of(tmp_path / "w")
    assert ("\\x1b[31m" in message) == (name == HOSTILE)


@pytest.mark.parametrize("kind", ["pickle-layer", "pickle-key", "pickle-global", "caffemodel"])
def test_a_name_that_is_no_text_is_escaped(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](tmp_path / "w", "\ud800")
    message_of(tmp_path / "w")


@pytest.mark.parametrize("shape", [(1,) * 100, (0, 2**70), (0, 2**62, 2**62), (10**5000,), [2**70, 0]], ids=range(5))
def test_a_shape_that_numpy_cannot_hold_is_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = bytes(4) if len(shape) == 100 else b""
    write_pickle(tmp_path / "w", {"x": Misshapen(shape, data)})
    assert "layer x: " in message_of(tmp_path / "w")
    if max(shape) < 2**63:
        write_caffe_layer(tmp_path / "w", "x", data, list(shape))
        assert "layer x" in message_of(tmp_path / "w")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": np.zeros(3)}, "got an array as 'model'"),
        ({"model": 3, "x": np.zeros(3)}, "got no dict as 'model'"),
        (np.zeros(3), "got an array"),
        ([np.zeros(3)], "got no dict"),
        ({}, "got an empty dict"),
        ({"model": {}}, "got model"),
        ({7: np.zeros(3), 10**5000: np.zeros(3)}, "got a key of type int, a key of type int"),
        ({"model": {"x": Misshapen((3,), 5)}}, "layer x: expected 12 bytes for shape (3,), got data of type int"),
    ],
    ids=range(8),
)
def test_a_checkpoint_of_another_structure_is_described(tmp_path: Path, content: object, words: str) -> None:
    write_pickle(tmp_path / "w", content)
    assert words in message_of(tmp_path / "w")


def test_a_single_tensor_is_described(tmp_path: Path) -> None:
    for zipped in (True, False):
        for content in (torch.zeros(3), {"model": torch.zeros(3)}):
            save(content, tmp_path / "w", zipped)
            assert "got an array" in message_of(tmp_path / "w")
    save_file({"model": np.zeros(3, np.float32)}, tmp_path / "w")
    assert "is missing; expected the bottom-up-attention network, got a file with model" in message_of(tmp_path / "w")


@pytest.mark.parametrize("dtype", ["BF16", "F8_E5M2", "F8_E4M3", "U64", "C64", "F4"])
def test_a_safetensors_type_without_floats_of_numpy_is_named(tmp_path: Path, dtype: str) -> None:
    save_file({"x": np.zeros(1, np.int64)}, tmp_path / "w")
    content = (tmp_path / "w").read_bytes().replace(b'"I64"', f'"{dtype}"'.encode())
    header = content[8:].split(b"}}")[0] + b"}}"
    (tmp_path / "w").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    message_of(tmp_path / "w")
