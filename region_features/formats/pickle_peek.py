"""The image's id from the first bytes of a pickled record, so that a listing need not read the rest."""

from __future__ import annotations

import pickletools

_MEMOS = ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT")
_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")


def peek_pickle(data: bytes) -> str | None:
    """The text that follows the text `img_id`; nothing is unpickled.

    Args:
        data: the beginning of a pickle, of whatever length.

    Returns:
        The id; None where these bytes do not tell it.
    """
    named = False
    try:
        for code, argument, _ in pickletools.genops(data):
            if code.name in _MEMOS:
                continue
            if named:
                return argument if code.name in _TEXTS and argument else None
            named = code.name in _TEXTS and argument == "img_id"
    except Exception:  # cut off, or no pickle: whatever the opcodes stumble on
        return None
    return None
