"""Wrong use of a program: one line for the user, exit status 2."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

SHORT_USAGE = """\
usage: python -m beam_pipeline {--images SOURCE ... | --corpus DIR} --weights FILE --output DIR [flag ...]

Turn images into region features for vision-and-language models. For example:

  python -m beam_pipeline --images 'photos/*.jpg' --weights W.caffemodel --output out
  python -m beam_pipeline --corpus data/mscoco --weights W.caffemodel --output out --outputs tfrecord,captions,lmdb
  python -m beam_pipeline --output out --outputs tsv        # another format of shards that are there; no weights

No weights yet? tests/data/tiny.caffemodel of the repository serves for a try; docs/weights.md says where to get others.
--help lists all flags. To look at what came out: python -m beam_pipeline.inspect out"""


class UsageError(ValueError):
    """Wrong use of the program; the message is one line for the user."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UsageError, where argparse prints its usage and ends the process.

    Attributes:
        flags: every option string that was declared.
    """

    def __init__(self, **options: Any) -> None:
        self.flags: list[str] = []
        super().__init__(**{"allow_abbrev": False, **options})

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """Declare an argument, and remember its option strings."""
        self.flags.extend(name for name in names if isinstance(name, str) and name.startswith("-"))
        return super().add_argument(*names, **options)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError: argparse's message, as what was expected, what came and what to do."""
        for pattern, rewrite in _REWRITTEN:
            match = re.fullmatch(pattern, message, re.DOTALL)
            if match:
                raise UsageError(rewrite(*match.groups()))
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown == message:
            raise UsageError(message.removeprefix("argument "))
        name = unknown.split()[0].partition("=")[0]
        what = "unknown flag" if name.startswith("-") else "expected a flag, got"
        raise UsageError(f"{what} {name}{did_you_mean(name, self.flags)}")


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return a hint at the known flag, or value of one, that is nearest to what came; at --help if none is near."""
    bare = {one.lstrip("-"): one for one in known}  # dashes would make any two flags alike
    nearest = difflib.get_close_matches(name.lstrip("-"), bare, n=1)
    return f"; did you mean {bare[nearest[0]]}?" if nearest else "; see --help"


def _not_a_choice(flag: str, got: str, choices: str) -> str:
    names = choices.replace("'", "").split(", ")
    hint = did_you_mean(got.strip("'"), names)
    return f"{flag}: expected one of {', '.join(names)}, got {got}{hint}"


# What argparse says, and what stands in its place.
_REWRITTEN: tuple[tuple[str, Callable[..., str]], ...] = (
    (r"argument (.+?): invalid choice: (.+) \(choose from (.+)\)", _not_a_choice),
    (r"argument (.+?): invalid int value: (.+)", "{}: expected a whole number, got {}".format),
    (r"argument (.+?): invalid float value: (.+)", "{}: expected a number, got {}".format),
    (r"argument (.+?): expected (?:one|at least one) argument", "{}: expected a value after it, got none".format),
    (r"argument (.+?): ignored explicit argument (.+)", "{}: expected no value, got {}; leave the value out".format),
    (r"the following arguments are required: (.+)", "expected {}, got nothing; see --help".format),
)


def one_line(error: BaseException | str) -> str:
    """Return a message without line breaks, and with what a terminal would act on escaped."""
    return printable(" ".join(str(error).split()))


def printable(line: str) -> str:
    """Return a line with what a terminal would act on escaped: names of files come from others."""
    if line.isprintable():
        return line
    signs = (sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in line)
    return "".join(signs)
