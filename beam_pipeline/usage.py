"""Wrong use of a program: one line for the user, exit status 2."""

from __future__ import annotations

import argparse
from typing import NoReturn


class UsageError(ValueError):
    """Wrong use of the program; the message is one line for the user."""


class Parser(argparse.ArgumentParser):
    """argparse's, which would print its usage and end the process."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(message)
