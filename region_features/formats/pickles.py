"""Pickles that any numpy and any Python from 3.6 on can load, and an unpickler that runs nothing."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from region_features.formats import REMEDY
from region_features.formats.pickle_guard import check_memo
from region_features.records.region_record import ARRAY_FIELDS

PROTOCOL = 4  # the newest that Python 3.6, VOLTA's own, can load
_MEMO_WRITERS = ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT")
_DTYPES = frozenset(field.dtype for field in ARRAY_FIELDS)
_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")

# (module, name) that a pickle may ask for -> what stands in for it.
Admitted = Mapping[tuple[str, str], Callable[..., Any]]


class RestrictedUnpickler(pickle.Unpickler):
    """Load plain containers, text, bytes and numbers; of classes and functions only what the caller admits.

    A pickle is a program: without this guard it can call any function of any installed module.

    Args:
        stream: at the pickle's first byte.
        admitted: what the pickle may ask for, and the stand-ins that it gets.
        storage: returns the stand-in of a persistent id; None if a pickle may refer to nothing outside itself.
        encoding: of the byte strings of Python 2's pickles.

    Raises:
        pickle.UnpicklingError: on load, for anything else that the pickle asks for; names it.
    """

    def __init__(
        self,
        stream: BinaryIO,
        admitted: Admitted | None = None,
        storage: Callable[[Any], Any] | None = None,
        encoding: str = "ASCII",
    ) -> None:
        super().__init__(stream, encoding=encoding)
        self._admitted = admitted or {}
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of `module.name`."""
        if (module, name) not in self._admitted:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, which is refused")
        return self._admitted[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Return the stand-in of data outside the pickle."""
        if self._storage is None:
            raise pickle.UnpicklingError("the pickle refers to data outside itself, which is refused")
        return self._storage(pid)


def load_restricted(
    data: bytes, kind: type, expected: str, source: str, admitted: Admitted | None = None, encoding: str = "ASCII"
) -> Any:
    """Load a pickled container of class `kind` with `RestrictedUnpickler`; messages call it `expected`.

    Raises:
        ValueError: the pickle is damaged, asks for what is not admitted, or holds something else than a `kind`.
    """
    try:
        check_memo(data)
        value = RestrictedUnpickler(io.BytesIO(data), admitted, encoding=encoding).load()
    except Exception as error:  # a damaged pickle raises whatever its opcodes stumble on
        raise ValueError(f"{source}: expected {expected}, got {error!r}; {REMEDY}") from error
    if not isinstance(value, kind):
        raise ValueError(f"{source}: expected {expected}, got a {type(value).__name__}; {REMEDY}")
    return value


@dataclass(frozen=True, eq=False)
class _Raw:
    """An array as a read-only view of its bytes, which `numpy.array` then copies into a writable one."""

    array: NDArray[Any]


class _PortablePickler(pickle.Pickler):
    """Pickle arrays by numpy's public names: numpy 1 does not know the private ones of numpy 2."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return np.array, (_Raw(value),)
        if isinstance(value, _Raw):
            return np.ndarray, (value.array.shape, value.array.dtype.str, value.array.tobytes())
        return NotImplemented


def dump_portable(value: object) -> bytes:
    """Pickle plain containers and arrays; an array becomes `numpy.array(numpy.ndarray(shape, dtype, bytes))`."""
    stream = io.BytesIO()
    _PortablePickler(stream, PROTOCOL).dump(value)
    return stream.getvalue()


def _array_itself(array: object) -> object:
    """Stand in for numpy.array, whose copy nobody needs here."""
    if not isinstance(array, np.ndarray):
        raise pickle.UnpicklingError(f"the pickle makes an array of a {type(array).__name__}")
    return array


def _array_of_bytes(shape: object, dtype: object, raw: object) -> NDArray[Any]:
    """Stand in for numpy.ndarray; an array is never larger than the bytes that the pickle holds."""
    if not isinstance(raw, bytes) or dtype not in _DTYPES or not isinstance(shape, tuple):
        raise pickle.UnpicklingError(f"the pickle asks for an array of {dtype!r}, shape {shape!r}")
    values = np.frombuffer(raw, str(dtype))
    if not all(isinstance(side, int) and side >= 0 for side in shape) or math.prod(shape) != values.size:
        raise pickle.UnpicklingError(f"the pickle asks for shape {shape!r} of {dtype!r}, and has {len(raw)} bytes")
    return values.reshape(shape)


# Reads the arrays of `dump_portable` back, as read-only views of the pickle's bytes.
PORTABLE_ARRAYS: Admitted = {("numpy", "array"): _array_itself, ("numpy", "ndarray"): _array_of_bytes}


def peek_text(data: bytes, name: str) -> str | None:
    """Find the text that follows the text `name` in the beginning of a pickle, as a dict's value follows its key.

    Nothing is unpickled. None if these bytes do not hold the value.
    """
    named = False
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in _MEMO_WRITERS:
                continue
            if named:
                return argument if opcode.name in _TEXTS and argument else None
            named = opcode.name in _TEXTS and argument == name
    except Exception:  # cut off, or no pickle: whatever the opcodes stumble on
        return None
    return None
