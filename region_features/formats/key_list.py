"""The record `keys` of VOLTA's LMDB: a pickled list of all other keys."""

from __future__ import annotations

import io
import pickle
from typing import NoReturn


def decode_key_list(data: bytes, source: str) -> list[bytes]:
    """Reads the key list; a pickle that asks for any class or function is refused.

    Args:
        data: the pickled list.
        source: the LMDB's name, for messages.

    Raises:
        ValueError: the data is no pickled list of bytes.
    """
    try:
        keys = _PlainUnpickler(io.BytesIO(data)).load()
    except Exception as error:  # a damaged pickle raises whatever its opcodes stumble on
        raise ValueError(f"{source}, record keys: expected a pickled list, got {error!r}; {_REMEDY}") from error
    if not isinstance(keys, list) or not all(isinstance(key, bytes) for key in keys):
        raise ValueError(f"{source}, record keys: expected a list of bytes, got something else; {_REMEDY}")
    return keys


_REMEDY = "the LMDB is damaged or was written by another program: build it again"


class _PlainUnpickler(pickle.Unpickler):
    """Loads plain containers and bytes only."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, and a list of bytes needs no global")
