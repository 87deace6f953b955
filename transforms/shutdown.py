"""Ending a local run early: no other shard is begun, and those that are being published are waited for."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import Any

_requested = threading.Event()
_publishing: set[Future[Any]] = set()


class ShutdownRequested(Exception):
    """The run ends early; raised where the next shard would begin."""


def request() -> None:
    """Have the run end where the next shard would begin."""
    _requested.set()


def reset() -> None:
    """Forget an earlier request, for a new run in the same process."""
    _requested.clear()


def check() -> None:
    """Raise ShutdownRequested if the run is to end."""
    if _requested.is_set():
        raise ShutdownRequested("the run was asked to end")


def publishing(future: Future[Any]) -> None:
    """Remember a shard that is being published."""
    _publishing.add(future)
    future.add_done_callback(_publishing.discard)


def wait_for_publishing(seconds: float) -> None:
    """Wait until all shards that are being published are, at most so long."""
    wait(list(_publishing), timeout=seconds)
