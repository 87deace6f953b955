"""Refuse pickles that ask for a huge memo: six bytes can make Python's unpickler fill gigabytes of memory."""

from __future__ import annotations

import pickle
import pickletools

_STOP, _LONG_BINPUT, _PUT = (ord(code) for code in ".rp")
_COUNTS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_TWO_LINES = ("GLOBAL", "INST")
# By opcode: the bytes of one of fixed size, of the count that an argument begins with, and the lines of an argument.
_FIXED, _COUNTED, _LINES = [0] * 256, [0] * 256, [0] * 256
for _opcode in pickletools.opcodes:
    _size = _opcode.arg.n if _opcode.arg else 0
    if ord(_opcode.code) in (_STOP, _LONG_BINPUT):
        continue
    if _size >= 0:
        _FIXED[ord(_opcode.code)] = 1 + _size
    elif _size in _COUNTS:
        _COUNTED[ord(_opcode.code)] = _COUNTS[_size]
    else:
        _LINES[ord(_opcode.code)] = 2 if _opcode.name in _TWO_LINES else 1


def check_memo(data: bytes) -> None:
    """Walk over the opcodes of a pickle; an honest one numbers no more objects than it has bytes.

    Raises:
        pickle.UnpicklingError: it does, or its opcodes are damaged.
    """
    position, end = 0, len(data)
    while position < end:
        code = data[position]
        if _FIXED[code]:
            position += _FIXED[code]
        elif _COUNTED[code]:
            begin = position + 1 + _COUNTED[code]
            position = begin + int.from_bytes(data[position + 1 : begin], "little")
        elif code == _LONG_BINPUT:
            _check_number(int.from_bytes(data[position + 1 : position + 5], "little"), end)
            position += 5
        elif _LINES[code]:
            for _ in range(_LINES[code]):
                line = position + 1
                position = data.find(b"\n", line) + 1 or end
            if code == _PUT:
                _check_number(int(data[line:position]), end)
        elif code == _STOP:
            return
        else:
            raise pickle.UnpicklingError(f"invalid opcode {code:#04x} at byte {position}")
    raise pickle.UnpicklingError("pickle data was truncated")


def _check_number(number: int, most: int) -> None:
    if number > most:
        raise pickle.UnpicklingError(f"its memo would have {number} entries in {most} bytes")
