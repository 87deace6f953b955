"""A folder to build an export in, before its files get their places."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

from transforms import files


@contextlib.contextmanager
def scratch_folder(folder: str, name: str) -> Iterator[str]:
    """Give an empty local folder to build `name` in, on the disk of `folder` where that is local; delete it afterwards.

    What killed programs left of the same name is deleted first.
    """
    if files.is_remote(folder):
        with tempfile.TemporaryDirectory() as scratch:
            yield scratch
        return
    os.makedirs(folder, exist_ok=True)
    prefix = f"{files.TEMP_PREFIX}{name}-"
    others = [entry for entry in os.listdir(folder) if "-" in entry.removeprefix(prefix)]  # of `NAME-2`, for one
    files.delete_temporaries(folder, prefix, spare=others)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as scratch:
        yield scratch
