"""Pickles that are programs are refused by name, never run, and cannot exhaust the machine's memory."""

from __future__ import annotations

import builtins
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from region_features.detector import WeightsError
from region_features.detector.weights.restricted_pickle import unpickle
from region_features.detector.weights.torch_file import LEGACY_MAGIC
from region_features.detector.weights.weights_file import read_weights
from tests.samples.weight_files import bua_state, save


class Calls:
    """An object whose pickle calls `function`."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def attacks(marker: Path) -> dict[str, Calls]:
    """Calls that an attacker could pickle; each would make the file `marker` or run more code."""
    return {
        f"{os.system.__module__}.system": Calls(os.system, f"touch {marker}"),
        "eval": Calls(builtins.eval, f"open({str(marker)!r}, 'w')"),
        "exec": Calls(builtins.exec, f"open({str(marker)!r}, 'w')"),
        "getattr": Calls(getattr, "", "join"),
        "numpy.load": Calls(np.load, str(marker)),
        "torch.storage._load_from_bytes": Calls(torch.storage._load_from_bytes, b""),
        "torch.serialization.load": Calls(torch.serialization.load, str(marker)),
    }


NAMES = tuple(attacks(Path("unused")))
REFUSED = "which is refused: expected arrays and tensors only; do not trust the file"


def assert_refused(path: Path, name: str, marker: Path) -> None:
    with pytest.raises(WeightsError, match=rf"asks for \S*{name}, {REFUSED}") as raised:
        read_weights(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
@pytest.mark.parametrize("name", NAMES)
def test_a_pickle_that_calls_is_refused_by_name(tmp_path: Path, name: str, protocol: int) -> None:
    path, marker = tmp_path / "evil.pkl", tmp_path / "marker"
    for content in (attacks(marker)[name], {"model": {"x": np.ones(2), "y": attacks(marker)[name]}}):
        path.write_bytes(pickle.dumps(content, protocol))
        assert_refused(path, name, marker)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_that_calls_is_refused_by_name(tmp_path: Path, name: str, zipped: bool) -> None:
    path, marker = tmp_path / "evil.pth", tmp_path / "marker"
    save({**bua_state(), "more": attacks(marker)[name]}, path, zipped)
    assert_refused(path, name, marker)


def test_the_attacks_work_on_the_standard_unpickler(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(attacks(marker)["eval"])).close()
    assert marker.exists()


def test_the_header_pickles_of_an_older_checkpoint_are_restricted_too(tmp_path: Path) -> None:
    path, marker = tmp_path / "evil.pth", tmp_path / "marker"
    path.write_bytes(LEGACY_MAGIC + pickle.dumps(attacks(marker)["exec"], 2))
    assert_refused(path, "exec", marker)


@pytest.mark.parametrize(
    "pickled",
    [
        b"cnumpy\nndarray\nN}S'x'K\x01s\x86b.",  # attributes for a function that stands in for a class
        b"cnumpy\nndarray\n}S'_function'ccollections\nOrderedDict\nsb.",
        b"\x80\x02cnumpy\ndtype\n)\x81.",  # a class made without its arguments
        b"\x80\x02cnumpy\ndtype\nU\x01O\x85R.",  # an array of objects
        b"\x80\x02cnumpy\ndtype\nU\x03S99\x85R.",
        b"\x80\x02\x82\x01.",  # the copyreg module's table
        b"\x80\x02K\x01Q.",  # data outside the pickle
        b"\x80\x02r\xff\xff\xff\x7f.",
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a memo of 2**31 entries
        b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",  # 2**40 bytes
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02" + b"]" * 1_100_000 + b".",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aU\x05rot13\x86R.",
        b"0.",
        b"R.",
        b"\x80\x02",
    ],
)
def test_an_odd_pickle_gets_an_error_of_one_line(pickled: bytes) -> None:
    with pytest.raises(WeightsError, match=r"^odd\.pkl: ") as raised:
        unpickle(BytesIO(pickled), "odd.pkl")
    assert "\n" not in str(raised.value)


def array(shape: tuple[int, ...], data: bytes) -> bytes:
    """Pickle a float32 array that claims a shape."""
    numbers = np.zeros(3, np.float32)
    reduced: Any = numbers.__reduce__()
    rebuild, args, state = reduced

    class Claim:
        def __reduce__(self) -> tuple[Any, ...]:
            return rebuild, args, (state[0], shape, state[2], False, data)

    return pickle.dumps({"model": {"x": Claim()}}, 2)


@pytest.mark.parametrize("shape", [(2**40,), (2**62, 4), (-3,), (3, -1), (2,), (True, 3), ("3",), (3.0,)])
def test_an_array_whose_data_contradicts_its_shape_is_refused(tmp_path: Path, shape: tuple[Any, ...]) -> None:
    path = tmp_path / "odd.pkl"
    path.write_bytes(array(shape, bytes(12)))
    with pytest.raises(WeightsError, match=r"odd\.pkl, layer x: expected"):
        read_weights(path)
    path.write_bytes(array((3,), bytes(12)))
    with pytest.raises(WeightsError, match="is missing"):  # a sound array is read, and the network lacks all others
        read_weights(path)


class Pid:
    """An object whose pickle is a persistent id."""

    def __init__(self, pid: Any) -> None:
        self.pid = pid


class TorchPickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.pid if isinstance(obj, Pid) else None


def checkpoint(path: Path, pid: Any, *geometry: Any, data: bytes = bytes(24), name: str = "0", **options: Any) -> None:
    """Write a zip checkpoint of one tensor `x` of storage `pid` and this offset, size and stride."""
    rebuild = torch._utils._rebuild_tensor_v2
    stream = BytesIO()
    TorchPickler(stream, 2).dump({"x": Calls(rebuild, Pid(pid), *geometry, False, {})})
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr(f"archive/data/{name}", data)


GOOD_PID = ("storage", torch.FloatStorage, "0", "cpu", 6)


def test_a_sound_tensor_is_read(tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    checkpoint(path, GOOD_PID, 2, (2, 2), (1, 2))
    with pytest.raises(WeightsError, match="is missing"):  # the tensor is read, and the network lacks all others
        read_weights(path)


@pytest.mark.parametrize(
    ("pid", "geometry"),
    [
        (GOOD_PID, (3, (2, 2), (2, 1))),
        (GOOD_PID, (0, (7,), (1,))),
        (GOOD_PID, (-1, (2,), (1,))),
        (GOOD_PID, (2**62, (2,), (1,))),
        (GOOD_PID, (0, (2,), (2**62,))),
        (GOOD_PID, (5, (2,), (-1,))),
        (GOOD_PID, (0, (2**40,), (0,))),  # one number, expanded
        (GOOD_PID, (0, (2, 2), (1,))),
        (GOOD_PID, (0, 6, 1)),
        (GOOD_PID, (0, ("6",), (1,))),
        (GOOD_PID, (None, (6,), (1,))),
        (("storage", torch.FloatStorage, "0", "cpu", 5), (0, (5,), (1,))),
        (("storage", torch.FloatStorage, "0", "cpu", 2**60), (0, (6,), (1,))),
        (("storage", torch.DoubleStorage, "0", "cpu", 6), (0, (6,), (1,))),
        (("storage", torch.FloatStorage, "../data.pkl", "cpu", 6), (0, (6,), (1,))),
        (("storage", torch.FloatStorage, "1", "cpu", 6), (0, (6,), (1,))),
        (("storage", torch.FloatStorage, "0", "cpu", -6), (0, (6,), (1,))),
        (("storage", torch.FloatStorage, "0", "cpu", "6"), (0, (6,), (1,))),
        (("storage", torch.FloatStorage, ["0"], "cpu", 6), (0, (6,), (1,))),
        (("storage", "FloatStorage", "0", "cpu", 6), (0, (6,), (1,))),
        (("storage", torch.Size, "0", "cpu", 6), (0, (6,), (1,))),
        (("module", torch.FloatStorage, "0", "cpu", 6), (0, (6,), (1,))),
        (("storage", torch.FloatStorage, "0", "cpu", 6, ("1", 2, 3)), (0, (6,), (1,))),
        (("storage",), (0, (6,), (1,))),
        (3, (0, (6,), (1,))),
        (None, (0, (6,), (1,))),
    ],
)
def test_odd_storages_and_views_are_refused(tmp_path: Path, pid: Any, geometry: tuple[Any, ...]) -> None:
    path = tmp_path / "odd.pth"
    checkpoint(path, pid, *geometry)
    with pytest.raises(WeightsError, match=r"odd\.pth") as raised:
        read_weights(path)
    assert "\n" not in str(raised.value) and "is missing; expected" not in str(raised.value)


def test_a_storage_type_that_is_not_admitted_is_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    checkpoint(path, ("storage", torch.BFloat16Storage, "0", "cpu", 6), 0, (6,), (1,))
    with pytest.raises(WeightsError, match=rf"asks for torch\.BFloat16Storage, {REFUSED}"):
        read_weights(path)


def test_zip_bombs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    checkpoint(path, GOOD_PID, 0, (6,), (1,), data=bytes(1 << 20), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="got a compressed zip file"):
        read_weights(path)
    checkpoint(path, GOOD_PID, 0, (6,), (1,))
    content = bytearray(path.read_bytes())
    sizes = content.rindex(b"PK\x01\x02") + 20  # of the last entry in the directory: compressed, whole
    content[sizes : sizes + 8] = struct.pack("<II", 1 << 30, 1 << 30)
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="shared content"):
        read_weights(path)


@pytest.mark.parametrize("protocol", [b"\x80\x02M\xe8\x03.", b"\x80\x02N."])
def test_an_unknown_protocol_of_the_older_format_is_refused(tmp_path: Path, protocol: bytes) -> None:
    path = tmp_path / "old.pth"
    path.write_bytes(LEGACY_MAGIC + protocol + pickle.dumps({"little_endian": True}, 2))
    with pytest.raises(WeightsError, match="expected protocol 1001"):
        read_weights(path)
