"""Arrays in pickles as numpy itself writes them, read without calling a function of numpy.

A pickle describes an array by calls of numpy's functions; stand-ins take their place, and what they describe is checked
before an array is made of it.
"""

from __future__ import annotations

import math
import pickle
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from region_features.formats import REMEDY
from region_features.formats.pickles import PORTABLE_ARRAYS, Admitted, load_restricted


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
        if not re.fullmatch(r"f[248]|[iu][1248]|b1", str(code)):
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


def _scalar(dtype: object, data: object = b"") -> int | float | bool:
    """Stand in for the function that makes a numpy number of its bytes."""
    raw = data.encode("latin-1") if isinstance(data, str) else data
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes) or len(raw) != dtype.dtype().itemsize:
        raise pickle.UnpicklingError("a number without content")
    return np.frombuffer(raw, dtype.dtype())[0].item()


# Beside these, the arrays of `dump_portable`: its numpy.ndarray is called, numpy's own is only named.
_FIELDS: Admitted = {
    **NUMPY,
    **{name: AdmittedFunction(stand_in) for name, stand_in in PORTABLE_ARRAYS.items()},
    ("numpy.core.multiarray", "scalar"): AdmittedFunction(_scalar),
    ("numpy._core.multiarray", "scalar"): AdmittedFunction(_scalar),
}


def load_fields(data: bytes, source: str) -> dict[str, Any]:
    """Read a pickled dict of numbers, text and arrays, written by any numpy and any Python.

    Raises:
        ValueError: the pickle is damaged, asks for anything else, or an array contradicts itself; names the source.
    """
    expected = "a pickled dict of numbers, text and arrays"
    fields = load_restricted(data, dict, expected, source, _FIELDS, encoding="latin1")
    try:
        return {
            str(name): value.array() if isinstance(value, ArrayDescription) else value for name, value in fields.items()
        }
    except (ValueError, OverflowError, pickle.UnpicklingError) as error:
        raise ValueError(f"{source}: expected {expected}, got {error!r}; {REMEDY}") from error
