"""Checks of values that JSON allows and records cannot hold."""

from __future__ import annotations

from typing import Any, TypeGuard


def is_int64(value: Any) -> TypeGuard[int]:
    """Return whether a value is a whole number of 64 bits with sign; a truth value is none."""
    return type(value) is int and -(2**63) <= value < 2**63


def check_unicode(text: str) -> None:
    """Raise a ValueError for a text with half a character, a surrogate, which UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"expected valid Unicode, got half a character ({error.reason})") from error
