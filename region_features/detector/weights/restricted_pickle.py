"""Unpickle arrays and nothing else.

A pickle is a program. Here it may build lists, dicts, numbers, texts and descriptions of arrays; it never calls a
function of numpy or torch, and whatever else it asks for is refused by name.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from io import BytesIO
from typing import Any

from numpy.typing import NDArray

from region_features.detector.errors import WeightsError
from region_features.detector.weights.messages import printable, reason_of
from region_features.formats.numpy_pickles import NUMPY, ArrayDescription
from region_features.formats.pickles import Admitted, RestrictedUnpickler

# ResNet-152 with its optimiser's state takes about 40,000; each may cost 60 bytes and more of memory.
_MOST_OPCODES = 1_000_000
_MEMO_WRITERS = ("PUT", "BINPUT", "LONG_BINPUT")


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
