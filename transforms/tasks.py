"""What this process is at beside its images, for the progress display of a local run: a task has a name and a size."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

_lock = threading.Lock()


@dataclass
class Task:
    """Something that takes long.

    Attributes:
        what: names it, `building lmdb`.
        unit: of what is counted, `B` or ` images`.
        total: how much there is; None where that is not known.
        done: how much of it is done.
    """

    what: str
    unit: str
    total: int | None
    done: int = 0

    def advance(self, amount: int) -> None:
        """Count what was done."""
        with _lock:
            self.done += amount


_tasks: list[Task] = []


@contextlib.contextmanager
def at_work(what: str, unit: str = "", total: int | None = None) -> Iterator[Task]:
    """Make something the newest task of this process for as long as the block lasts."""
    task = Task(what, unit, total)
    with _lock:
        _tasks.append(task)
    try:
        yield task
    finally:
        with _lock:
            _tasks.remove(task)


def newest_task() -> Task | None:
    """Return the task that was begun last and goes on, as it is now."""
    with _lock:
        return replace(_tasks[-1]) if _tasks else None
