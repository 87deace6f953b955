"""Unpickle arrays and nothing else.

A pickle is a program. Here it may build lists, dicts, numbers, texts and the descriptions of arrays that are defined
below; it never calls a function of numpy or torch, and whatever else it asks for is refused by name.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from io import BytesIO
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from region_features.detector.errors import WeightsError
from region_features.detector.weights.messages import printable, reason_of
from region_features.formats.pickles import Admitted, RestrictedUnpickler

# ResNet-152 with its optimiser's state takes about 40,000; each may cost 60 bytes and more of memory.
_MOST_OPCODES = 1_000_000
_MEMO_WRITERS = ("PUT", "BINPUT", "LONG_BINPUT")


class ArrayDescription(ABC):
    """An array as a pickle describes it, not yet checked."""

    @abstractmethod
    def array(self) -> NDArray[Any]:
        """Return the array.

        Raises:
            ValueError: the description contradicts itself or its data.
        """


class Unchangeable:
    """An object that refuses the state that a pickle would give it."""

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError(f"a state for a {type(self).__name__}")


class AdmittedFunction(Unchangeable):
    """A function that a pickle may call, but unlike the function itself cannot change."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self._function(*args)


class _Dict(dict):
    """Stands in for OrderedDict; ignores its state, which for a state dict is `_metadata`."""

    def __setstate__(self, state: object) -> None:
        del state


class _Dtype:
    """Stands in for numpy.dtype."""

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


class _NumpyArray(ArrayDescription):
    """Stands in for numpy.ndarray."""

    def __init__(self, *_: object) -> None:
        self._shape: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, self._shape, self._dtype, fortran, self._data = state
        self._order = "F" if fortran else "C"

    def array(self) -> NDArray[Any]:
        if not isinstance(self._shape, tuple) or not isinstance(self._dtype, _Dtype):
            raise ValueError("an array without content")
        # Python 3 reads the bytes of Python 2's pickles as text.
        data = self._data.encode("latin-1") if isinstance(self._data, str) else self._data
        dtype, shape = self._dtype.dtype(), counts(self._shape)
        size = math.prod(shape) * dtype.itemsize
        if not isinstance(data, bytes | bytearray):
            raise ValueError(f"expected {size} bytes for shape {shape}, got data of type {type(data).__name__}")
        if len(data) != size:
            raise ValueError(f"expected {size} bytes for shape {shape}, got {len(data)}")
        return np.frombuffer(bytes(data), dtype).reshape(shape, order="F" if self._order == "F" else "C")


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _NumpyArray:
    array = _NumpyArray()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin-1")


def counts(values: object) -> tuple[int, ...]:
    """Return a shape or strides as a tuple of whole numbers of at least 0.

    Raises:
        ValueError: `values` is something else.
    """
    if not isinstance(values, tuple | list) or any(type(value) is not int or value < 0 for value in values):
        raise ValueError(f"expected a shape, got {values!r}")
    return tuple(values)


NUMPY: Admitted = {
    ("__builtin__", "bytes"): AdmittedFunction(lambda: b""),  # the empty bytes of protocol 2
    ("_codecs", "encode"): AdmittedFunction(_encode),
    ("collections", "OrderedDict"): AdmittedFunction(_Dict),
    ("numpy", "dtype"): AdmittedFunction(_Dtype),
    ("numpy", "ndarray"): AdmittedFunction(_NumpyArray),
    ("numpy.core.multiarray", "_reconstruct"): AdmittedFunction(_NumpyArray),
    ("numpy._core.multiarray", "_reconstruct"): AdmittedFunction(_NumpyArray),
    ("numpy.core.numeric", "_frombuffer"): AdmittedFunction(_from_buffer),
    ("numpy._core.numeric", "_frombuffer"): AdmittedFunction(_from_buffer),
}


def unpickle(
    stream: BytesIO, where: str, admitted: Admitted = NUMPY, storage: Callable[[Any], Any] | None = None
) -> Any:
    """Read one pickle, leaving the stream behind it.

    Args:
        stream: at the pickle's first byte.
        where: the file's name, for errors.
        admitted: what the pickle may ask for, and its stand-ins, each an AdmittedFunction.
        storage: returns the stand-in of a persistent id; None if the pickle may refer to nothing outside itself.

    Returns:
        The content, arrays as ArrayDescription.

    Raises:
        WeightsError: the pickle asks for something else, is damaged, or is far too large.
    """
    begin = stream.tell()
    try:
        # A tiny pickle can ask for a memo of gigabytes, or consist of nothing but new lists.
        for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if number >= _MOST_OPCODES or (opcode.name in _MEMO_WRITERS and int(argument or 0) > _MOST_OPCODES):
                raise WeightsError(f"{where}: expected weights, got a pickle of more than {_MOST_OPCODES} steps")
        stream.seek(begin)
        return RestrictedUnpickler(stream, admitted, storage, encoding="latin1").load()
    except WeightsError:
        raise
    except Exception as error:  # damaged pickles fail in many ways
        reason = reason_of(error)
        if str(error).endswith("is refused"):  # worded so by RestrictedUnpickler
            message = f"{where}: {reason}: expected arrays and tensors only; do not trust the file"
        else:
            message = f"{where}: expected a whole pickle of arrays, got one that is cut short or damaged ({reason}); "
            message += "copy the file again"
        raise WeightsError(message) from error


def model_arrays(content: Any, where: str) -> dict[str, NDArray[Any]]:
    """Return the named arrays of a checkpoint, which is either a dict of them or holds one as `model`.

    Raises:
        WeightsError: there are none, or one contradicts itself; names file and layer.
    """
    model = content.get("model", content) if isinstance(content, dict) else content
    items = model.items() if isinstance(model, dict) else ()
    named = {name: value for name, value in items if isinstance(name, str) and isinstance(value, ArrayDescription)}
    if not named:
        if isinstance(model, dict):
            keys = list(content)[:5]
            names = [printable(key) if isinstance(key, str) else f"a key of type {type(key).__name__}" for key in keys]
            got = ", ".join(names) or "an empty dict"
        else:
            got = "an array" if isinstance(model, ArrayDescription) else "no dict"
            got += "" if model is content else " as 'model'"
        raise WeightsError(f"{where}: expected named arrays, or a dict that holds them as 'model'; got {got}")
    arrays = {}
    for name, value in named.items():
        try:
            arrays[name] = value.array()
        except (ValueError, OverflowError) as error:  # OverflowError: numbers that numpy cannot count
            place = f"{where}, layer {printable(name)}"
            raise WeightsError(f"{place}: {reason_of(error)}; the file is damaged, copy it again") from error
    return arrays
