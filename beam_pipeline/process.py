"""A command's process: Ctrl-C and SIGTERM end it with one line at any moment, its imports included."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import NoReturn

INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143


class Terminated(BaseException):
    """The process was sent SIGTERM; raised in the main thread."""


class Stopped(Exception):
    """Ctrl-C or SIGTERM stopped a run; raised so that locks are given up before the process ends.

    Attributes:
        status: of the process.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _raise_terminated(*_: object) -> NoReturn:
    raise Terminated


def run_command(module: str) -> int:
    """Run `main` of a module on the process's arguments; the module is imported here, where signals are handled.

    Returns:
        Exit status.
    """
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        status: int = importlib.import_module(module).main(sys.argv[1:])
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of a pipe, `head` for one, has seen enough
        os._exit(BROKEN_PIPE)
    except KeyboardInterrupt:
        end(INTERRUPTED, f"{module.partition('.')[0]}: interrupted; run the same command again to go on")
    except Terminated:
        end(TERMINATED, f"{module.partition('.')[0]}: terminated; run the same command again to go on")


def end(status: int, message: str) -> NoReturn:
    """End the process at once with one line: threads that are deep in the network would not end for it."""
    print(message, file=sys.stderr, flush=True)
    os._exit(status)
