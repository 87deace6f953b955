"""Unpickles arrays and nothing else.

A pickle is a program. This one may build lists, dicts, numbers, texts and the descriptions of arrays that are defined
here; no function of numpy or torch is ever called by it, and whatever else it asks for is refused by name.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from region_features.detector.errors import WeightsError

# ResNet-152 with its optimiser's state takes about 40,000; each may cost 60 bytes and more of memory.
_MOST_OPCODES = 1_000_000
_MEMO_WRITERS = ("PUT", "BINPUT", "LONG_BINPUT")


class Described(ABC):
    """An array as a pickle describes it, not yet checked."""

    __slots__ = ()

    @abstractmethod
    def array(self) -> NDArray[Any]:
        """The array.

        Raises:
            ValueError: the description contradicts itself or its data.
        """


class Admitted:
    """A function that a pickle may call; unlike the function itself it cannot be changed by the pickle."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        """What the function gives."""
        return self._function(*args)

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError("a state for a function")


class _Dict(dict):
    """In place of OrderedDict; a state dict's `_metadata`, which is set as its state, is passed over."""

    def __setstate__(self, state: object) -> None:
        del state


class _Dtype:
    __slots__ = ("_code", "_order")

    def __init__(self, code: str, *_: object) -> None:
        if not re.fullmatch(r"[fiub][1248]", str(code)):
            raise pickle.UnpicklingError(f"an array of type {code!r}; expected numbers")
        self._code, self._order = str(code), "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"byte order {state[1]!r}")
        self._order = str(state[1])

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._order + self._code)


class _NumpyArray(Described):
    __slots__ = ("_data", "_dtype", "_order", "_shape")

    def __init__(self, *_: object) -> None:
        self._shape: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, self._shape, self._dtype, fortran, self._data = state
        self._order = "F" if fortran else "C"

    def array(self) -> NDArray[Any]:
        if not isinstance(self._shape, tuple) or not isinstance(self._dtype, _Dtype):
            raise ValueError("an array without content")
        # Python 2 pickled bytes as what Python 3 reads as text.
        data = self._data.encode("latin-1") if isinstance(self._data, str) else self._data
        dtype = self._dtype.dtype()
        shape = counts(self._shape)
        wanted = math.prod(shape) * dtype.itemsize
        if not isinstance(data, bytes | bytearray) or len(data) != wanted:
            raise ValueError(f"expected {wanted} bytes for shape {shape}, got {len(data)}")
        return np.frombuffer(bytes(data), dtype).reshape(shape, order="F" if self._order == "F" else "C")


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _NumpyArray:
    array = _NumpyArray()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _no_bytes() -> bytes:
    return b""


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin-1")


def counts(values: object) -> tuple[int, ...]:
    """A tuple of whole numbers of at least 0, as shapes and strides are.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(values, tuple | list) or any(type(value) is not int or value < 0 for value in values):
        raise ValueError(f"expected a shape, got {values!r}")
    return tuple(values)


Functions = Mapping[tuple[str, str], Callable[..., Any]]
NUMPY: Functions = {
    ("__builtin__", "bytes"): _no_bytes,  # how protocol 2 has an empty one
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _Dict,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _NumpyArray,
    ("numpy.core.multiarray", "_reconstruct"): _NumpyArray,
    ("numpy._core.multiarray", "_reconstruct"): _NumpyArray,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: BytesIO, where: str, functions: Functions, storage: Callable[..., Any] | None) -> None:
        super().__init__(stream, encoding="latin1")
        self._where = where
        self._functions = functions
        self._storage = storage

    def find_class(self, module: str, name: str) -> Admitted:
        """What stands in for `module.name`."""
        function = self._functions.get((module, name))
        if function is None:
            raise WeightsError(
                f"{self._where}: the pickle asks for {module}.{name}, which is refused: expected arrays and tensors "
                "only; do not trust the file"
            )
        return function if isinstance(function, Admitted) else Admitted(function)

    def persistent_load(self, pid: Any) -> Any:
        """What stands in for data beside the pickle."""
        if self._storage is None:
            raise WeightsError(f"{self._where}: the pickle refers to data outside itself, which is refused")
        return self._storage(pid)


def unpickle(
    stream: BytesIO, where: str, functions: Functions = NUMPY, storage: Callable[..., Any] | None = None
) -> Any:
    """Reads one pickle, leaving the stream behind it.

    Args:
        stream: at the pickle's first byte.
        where: the file's name, for errors.
        functions: (module, name) -> what stands in for it; nothing else can be called.
        storage: gives the stand-in of a persistent id; None where there are none.

    Returns:
        What was pickled, arrays as `Described`.

    Raises:
        WeightsError: something else is asked for, or the pickle is damaged or far too large.
    """
    begin = stream.tell()
    try:
        # A tiny pickle can ask for a memo of gigabytes, or consist of nothing but new lists.
        for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if number >= _MOST_OPCODES or (opcode.name in _MEMO_WRITERS and int(argument or 0) > _MOST_OPCODES):
                raise WeightsError(f"{where}: expected weights, got a pickle of more than {_MOST_OPCODES} steps")
        stream.seek(begin)
        return _Unpickler(stream, where, functions, storage).load()
    except WeightsError:
        raise
    except Exception as error:  # damaged pickles fail in many ways
        raise WeightsError(
            f"{where}: expected a whole pickle of arrays, got one that is cut short or damaged "
            f"({' '.join(str(error).split())}); copy the file again"
        ) from error


def model_arrays(content: object, where: str) -> dict[str, NDArray[Any]]:
    """The named arrays of a checkpoint, which is either a dict of them or holds one as `model`.

    Raises:
        WeightsError: there are none, or one contradicts itself; names file and layer.
    """
    model = content.get("model", content) if isinstance(content, dict) else None
    named = {name: value for name, value in model.items() if isinstance(value, Described)} if model else {}
    if not named:
        keys = ", ".join(str(key)[:40] for key in list(content)[:5]) if isinstance(content, dict) else "no dict"
        raise WeightsError(f"{where}: expected named arrays, or a dict that holds them as 'model'; got {keys}")
    arrays = {}
    for name, value in named.items():
        try:
            arrays[str(name)] = value.array()
        except ValueError as error:
            raise WeightsError(f"{where}, layer {name}: {error}; the file is damaged, copy it again") from error
    return arrays
