"""Disks that are full: how such an error is told, and what is said where it is that of temporary files."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator

from beam_pipeline.progress.summary import readable_size

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_DATABASE = "database or disk is full"
# Where SQLite looks if no variable names a folder: https://sqlite.org/tempfiles.html
_TEMPORARY = ("/var/tmp", "/usr/tmp", "/tmp")


class TemporaryDiskFull(OSError):
    """There is no room for the temporary files of the checks before a run; the message is one line for the user."""


def is_full_disk(error: BaseException | None) -> bool:
    """Return whether an error comes from a full disk; its text tells, too, since Beam wraps what steps raise."""
    texts = [_FULL_DATABASE, *map(os.strerror, _FULL)]
    return any(
        getattr(link, "errno", None) in _FULL or any(text in str(link) for text in texts) for link in error_chain(error)
    )


def is_full_database(error: BaseException) -> bool:
    """Return whether a temporary database is what found its disk full."""
    return any(_FULL_DATABASE in str(link) for link in error_chain(error))


def describe_full_temporary() -> str:
    """Say that the disk of the temporary files is full, where that is, what is free, and what to do."""
    folder = _temporary_folder()
    return (
        f"the disk of the temporary files is full: {folder} has {readable_size(free_bytes(folder))} free, and a run "
        "takes about 1 kB an image there, 3 kB with captions; make room, or set TMPDIR to a folder on another disk"
    )


def _temporary_folder() -> str:
    """Return where SQLite puts temporary databases."""
    named = (os.environ.get(name, "") for name in ("SQLITE_TMPDIR", "TMPDIR"))
    folders = [folder for folder in (*named, *_TEMPORARY) if os.path.isdir(folder) and os.access(folder, os.W_OK)]
    return folders[0] if folders else "."


def free_bytes(folder: str) -> int:
    """Return the free bytes on the disk of a local folder, which need not be there yet."""
    while not os.path.exists(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder or ".").free


def error_chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all that it was raised from: Beam wraps what a step raises."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
