"""Read files of torch.save, of its zip and its older format, without torch and without running their pickles."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from region_features.detector.errors import WeightsError
from region_features.detector.weights.messages import reason_of
from region_features.detector.weights.restricted_pickle import model_arrays, unpickle
from region_features.formats.numpy_pickles import NUMPY, AdmittedFunction, ArrayDescription, Unchangeable, counts
from region_features.formats.pickles import Admitted

# The older format's first pickle: torch.serialization.MAGIC_NUMBER.
LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_PROTOCOL = 1001
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# Returns a storage's bytes, given its key and their number.
_Read = Callable[[str, int], "bytes | memoryview"]


def _refuse(*_: object) -> NoReturn:
    raise ValueError("a storage that is called")


class _StorageType(AdmittedFunction):
    """Stands in for torch.FloatStorage and its kin."""

    def __init__(self, code: str) -> None:
        super().__init__(_refuse)
        self.dtype = np.dtype(code)


class _Storage(Unchangeable):
    """Numbers that a file stores beside its pickle, read when first needed."""

    def __init__(self, key: str, dtype: np.dtype[Any], count: int, read: _Read) -> None:
        self.key, self.dtype, self.count, self._read = key, dtype, count, read
        self._array: NDArray[Any] | None = None

    def array(self) -> NDArray[Any]:
        """Return all its numbers, read-only: (count,)."""
        if self._array is None:
            self._array = np.frombuffer(self._read(self.key, self.count * self.dtype.itemsize), self.dtype)
        return self._array


class _Tensor(Unchangeable, ArrayDescription):
    """Stands in for a tensor, which is a view of a storage."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: object) -> None:
        self._storage, self._offset, self._size, self._stride = storage, offset, size, stride

    def array(self) -> NDArray[Any]:
        """Return the view, read-only."""
        if not isinstance(self._storage, _Storage):
            raise ValueError("a tensor without a storage")
        count = self._storage.count
        (offset,), size, stride = counts((self._offset,)), counts(self._size), counts(self._stride)
        if len(size) != len(stride):
            raise ValueError(f"expected as many strides as dimensions, got size {size} and stride {stride}")
        if 0 in size:
            return np.empty(size, self._storage.dtype)
        last = offset + sum((dim - 1) * step for dim, step in zip(size, stride, strict=True))
        # An expanded tensor (stride 0) could stand for any number of elements.
        if last >= count or math.prod(size) > count:
            raise ValueError(f"size {size}, stride {stride} and offset {offset} lead out of {count} stored numbers")
        base = self._storage.array()[offset:]
        steps = [step * base.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(base, size, steps, writeable=False)


_TORCH: Admitted = {
    **NUMPY,
    **{("torch", name): _StorageType(code) for name, code in _DTYPES.items()},
    ("torch", "Size"): AdmittedFunction(tuple),
    ("torch._utils", "_rebuild_tensor"): AdmittedFunction(_Tensor),
    ("torch._utils", "_rebuild_tensor_v2"): AdmittedFunction(_Tensor),
    ("torch._utils", "_rebuild_parameter"): AdmittedFunction(lambda tensor, *_: tensor),
}


def _storages(read: _Read) -> tuple[dict[str, _Storage], Callable[[Any], _Storage]]:
    """Return a table of storages that fills as a pickle refers to them, and the function that resolves references."""
    table: dict[str, _Storage] = {}

    def resolve(pid: Any) -> _Storage:
        kind, storage_type, key, _device, count, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType) or not isinstance(key, str) or any(view):
            raise ValueError(f"reference {str(pid)[:80]}")
        counts((count,))
        storage = table.setdefault(key, _Storage(key, storage_type.dtype, count, read))
        if (storage.dtype, storage.count) != (storage_type.dtype, count):
            raise ValueError(f"storage {key} is described twice, and differently")
        return storage

    return table, resolve


def _exactly(data: bytes | memoryview, size: int, key: str) -> bytes | memoryview:
    if len(data) != size:
        raise ValueError(f"expected {size} bytes in storage {key}, got {len(data)}")
    return data


def read_torch_zip(data: bytes, where: str) -> dict[str, NDArray[Any]]:
    """Return the named arrays of a checkpoint in torch's zip format.

    Args:
        data: the whole file.
        where: the file's name, for errors.

    Raises:
        WeightsError: the file is damaged or pickles something else than tensors; names file and layer.
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            entries = archive.infolist()
            # torch never compresses; a zip bomb does, or refers to the same bytes many times.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise WeightsError(f"{where}: expected a checkpoint of torch.save, got a compressed zip file")
            if sum(entry.file_size for entry in entries) > len(data):
                raise WeightsError(f"{where}: expected a checkpoint of torch.save, got a zip file with shared content")
            pickles = [entry.filename for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
            if len(pickles) != 1:
                raise WeightsError(f"{where}: expected a checkpoint of torch.save, got a zip file without one data.pkl")
            prefix = pickles[0].removesuffix("data.pkl")
            if f"{prefix}byteorder" in archive.namelist() and archive.read(f"{prefix}byteorder") != b"little":
                raise WeightsError(f"{where}: expected little-endian numbers; save it again on an ordinary machine")

            def read(key: str, size: int) -> bytes:
                try:
                    return bytes(_exactly(archive.read(f"{prefix}data/{key}"), size, key))
                except KeyError:
                    raise ValueError(f"storage {key} is missing") from None

            _, resolve = _storages(read)
            return model_arrays(unpickle(BytesIO(archive.read(pickles[0])), where, _TORCH, resolve), where)
    except WeightsError:
        raise
    except Exception as error:  # BadZipFile, struct.error, UnicodeDecodeError, NotImplementedError, ...
        raise WeightsError(
            f"{where}: expected a whole checkpoint of torch.save, got one that is cut short or damaged "
            f"({reason_of(error)}); copy the file again"
        ) from error


def read_torch_legacy(data: bytes, where: str) -> dict[str, NDArray[Any]]:
    """Return the named arrays of a checkpoint of torch before 1.6: five pickles, then the storages' bytes.

    Args:
        data: the whole file.
        where: the file's name, for errors.

    Raises:
        WeightsError: the file is damaged or pickles something else than tensors; names file and layer.
    """
    stream, buffer = BytesIO(data), memoryview(data)
    places: dict[str, memoryview] = {}
    table, resolve = _storages(lambda key, size: _exactly(places.get(key, memoryview(b"")), size, key))
    _magic, protocol, system = (unpickle(stream, where) for _ in range(3))
    if protocol != _LEGACY_PROTOCOL or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise WeightsError(f"{where}: expected protocol {_LEGACY_PROTOCOL} of torch.save, little-endian")
    content = unpickle(stream, where, _TORCH, resolve)
    keys = unpickle(stream, where)
    position = stream.tell()
    for key in keys if isinstance(keys, list) else []:
        storage = table.get(key) if isinstance(key, str) else None
        if storage is None or len(buffer) < position + 8:
            break
        size = storage.dtype.itemsize * int.from_bytes(buffer[position : position + 8], "little")
        places[key] = buffer[position + 8 : position + 8 + size]
        position += 8 + size
    return model_arrays(content, where)
