"""Types of flags, which refuse a value with what was expected and what came."""

from __future__ import annotations

import argparse
import os
import re

from beam_pipeline.exports import OUTPUTS
from beam_pipeline.usage import did_you_mean

_SCHEME = re.compile(r"(file|gs|s3|hdfs|https?):(/*)")


def address(text: str) -> str:
    """Take a local path, a URI of remote storage, or a web address."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got nothing; is a variable of your shell unset?")
    if text == "~" or text.startswith("~/"):
        raise argparse.ArgumentTypeError(
            f"expected a path, got {text!r}: shells replace ~ only at the start of a word, without quotes; write "
            '"$HOME" in its place'
        )
    scheme = _SCHEME.match(text)
    if not scheme or os.path.lexists(text):
        return text
    name, slashes = scheme.groups()
    if name == "file":
        rest = text[scheme.end() :]
        raise argparse.ArgumentTypeError(f"expected a local path without file://, got {text!r}; write '/{rest}'")
    if len(slashes) < 2:
        raise argparse.ArgumentTypeError(
            f"expected two slashes, got {text!r}; did you mean {name}://{text[scheme.end() :]}?"
        )
    if len(slashes) > 2 or scheme.end() == len(text):
        place = "a host" if name.startswith("http") else "a bucket"
        raise argparse.ArgumentTypeError(f"expected {place} after {name}://, got {text!r}")
    return text


def path(text: str) -> str:
    """Take a local path, or a URI of remote storage."""
    if re.match("https?://", address(text)):
        raise argparse.ArgumentTypeError(
            f"expected a local path, or gs://BUCKET/PATH, got the web address {text!r}, which is neither read nor "
            "written; name a local copy"
        )
    return text


def positive(text: str) -> int:
    """Take a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


def amount(text: str) -> float:
    """Take a finite number over 0."""
    value = _number(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number over 0, got {text!r}")
    return value


def share(text: str) -> float:
    """Take a share between 0 and 1."""
    value = _number(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a share between 0 and 1, got {text!r}")
    return value


def _number(text: str) -> float:
    """Read a number; -1, which no flag takes, for anything else."""
    try:
        return float(text)
    except ValueError:
        return -1.0


def outputs(text: str) -> tuple[str, ...]:
    """Take names of outputs, separated by commas; in the order of OUTPUTS."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in OUTPUTS:
            raise argparse.ArgumentTypeError(
                f"expected some of {','.join(OUTPUTS)}, got {name!r}{did_you_mean(name, OUTPUTS)}"
            )
    if not names:
        raise argparse.ArgumentTypeError(f"expected some of {','.join(OUTPUTS)}, got nothing")
    return tuple(name for name in OUTPUTS if name in names)
