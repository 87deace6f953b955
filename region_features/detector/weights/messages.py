"""Names and reasons out of a weights file, made fit for a message of one line."""

from __future__ import annotations

from collections.abc import Iterable

from region_features.detector.errors import WeightsError

NAME_LENGTH, REASON_LENGTH = 60, 200  # characters


def printable(text: str, length: int = NAME_LENGTH) -> str:
    r"""Return a text of a file in ASCII, control characters as \x1b, cut to `length` characters and three dots."""
    escaped = ascii(text[: length + 1])[1:-1]
    return escaped if len(escaped) <= length else escaped[:length] + "..."


def reason_of(error: Exception) -> str:
    """Return an error's message in one line; a file decides what some of them say."""
    return printable(" ".join(str(error).split()), REASON_LENGTH)


def missing_layer(where: str, layer: str, present: Iterable[str]) -> WeightsError:
    """Return the error of a file that lacks a layer; names some layers that are present."""
    names = list(present)
    examples = ", ".join(map(printable, names[:5])) + (", ..." if len(names) > 5 else "")
    return WeightsError(
        f"{where}: layer {layer} is missing; expected the bottom-up-attention network, got a file with {examples}"
    )
