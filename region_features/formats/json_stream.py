"""Read the items of a list in a large JSON file one after the other, in flat memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_CHUNK = 1 << 20
# Longest item, in characters: a damaged file must not be taken into memory as one.
_LONGEST = 1 << 26
_AFTER_A_VALUE = tuple(",]}: \t\n\r")
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class _Text:
    """The part of a file that is being decoded."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text, self._at, self._ended = "", 0, False

    def _fill(self) -> bool:
        """Take more of the file, as much as there is already; False at its end."""
        if self._ended:
            return False
        self._text, self._at = self._text[self._at :], 0
        if len(self._text) > _LONGEST:
            raise ValueError(f"an item of more than {_LONGEST} characters")
        data = self._read(max(_CHUNK, len(self._text)))
        self._ended = not data
        self._text += self._decode(data, final=self._ended)
        return True

    def peek(self) -> str:
        """Return the next character that is no space; empty at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text) or not self._fill():
                return self._text[self._at : self._at + 1]

    def take(self, expected: str) -> str:
        """Take the next character, which must be one of these."""
        got = self._text[self._at : self._at + 1]
        if not got or got not in expected:
            got = self.peek()
        if not got or got not in expected:
            raise ValueError(f"expected {' or '.join(map(repr, expected))}, got {repr(got) if got else 'the end'}")
        self._at += 1
        return got

    def value(self) -> Any:
        """Take the next value."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._fill():
                    raise ValueError(f"{error.msg}: {self._text[self._at : self._at + 40]!r}") from error
                continue
            except RecursionError as error:
                raise ValueError("brackets that are nested too deep") from error
            # A number may go on in what was not read yet: `1.` is read as 1.
            if self._text[end : end + 1] in _AFTER_A_VALUE or not self._fill():
                self._at = end
                return value


def iter_items(read: Callable[[int], bytes], field: str) -> Iterator[Any]:
    """Yield the items of the list `field` of the object that a JSON file holds; otherwise as `iter_lists`."""
    return (item for _, item in iter_lists(read, (field,)))


def iter_lists(
    read: Callable[[int], bytes], fields: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[str, Any]]:
    """Yield (field, item) of some lists of the object that a JSON file holds; what else it holds is passed over.

    Args:
        read: reads at most so many bytes of the file, none at its end.
        fields: names of the lists, which may come in any order.
        optional: names of more of them, which may be missing.

    Raises:
        ValueError: it is no such file; what was yielded before stands before the damage.
    """
    text = _Text(read)
    text.take("{")
    missing = [*fields, *optional]
    closing = text.peek()
    if closing == "}":
        text.take("}")
    while closing != "}":
        if text.peek() != '"':
            text.take('"')
        name = text.value()
        text.take(":")
        if name in missing:
            missing.remove(name)
            if text.peek() != "[":
                raise ValueError(f"{name!r} is a {type(text.value()).__name__}, not a list")
            for item in _items(text):
                yield name, item
        else:
            text.value()
        closing = text.take(",}")
    if text.peek():
        raise ValueError(f"expected the end of the file after the object, got {text.peek()!r}")
    missing = [name for name in missing if name not in optional]
    if missing:
        raise ValueError(f"none of the name {missing[0]!r}")


def _items(text: _Text) -> Iterator[Any]:
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    while True:
        yield text.value()
        if text.take(",]") == "]":
            return
