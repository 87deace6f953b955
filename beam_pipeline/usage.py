"""Wrong use of a program: one line for the user, exit status 2."""

from __future__ import annotations

import argparse
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
        """Raise UsageError."""
        raise UsageError(message)


def one_line(error: BaseException | str) -> str:
    """Return a message without line breaks, and with what a terminal would act on escaped."""
    text = " ".join(str(error).split())
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
