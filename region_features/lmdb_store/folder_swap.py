"""A local folder that appears under its name only when it is whole, and replaces an older one in one swap."""

from __future__ import annotations

import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def swapped_folder(target: str) -> Iterator[str]:
    """Gives a hidden new folder beside `target` to fill; it takes the target's place at the end of the block.

    Readers of the folder that was there keep their open files. If the block raises, all stays as it was.

    Args:
        target: path of the folder to make; the folders above it are made where missing.
    """
    parent, stem = _parent_and_stem(target)
    os.makedirs(parent, exist_ok=True)
    token = uuid.uuid4().hex
    folder, old = f"{stem}.tmp-{token}", f"{stem}.old-{token}"
    os.mkdir(folder)
    try:
        yield folder
        for entry in os.scandir(folder):
            _flush(entry.path)
        _flush(folder)
        if os.path.exists(target):
            os.rename(target, old)
        os.rename(folder, target)
        _flush(parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def tidy_after_kill(target: str) -> None:
    """Removes what killed programs left beside `target`, and puts back the folder that one had just swapped aside.

    Raises:
        FileExistsError: a file or a link stands at `target`.
    """
    if os.path.islink(target.rstrip("/")) or (os.path.exists(target) and not os.path.isdir(target)):
        raise FileExistsError(f"{target}: expected a folder or nothing there, got a file or link; move it away")
    stem = glob.escape(_parent_and_stem(target)[1])
    for old in glob.glob(f"{stem}.old-*"):
        if os.path.exists(target):
            shutil.rmtree(old)
        else:
            os.rename(old, target)
    for left in glob.glob(f"{stem}.tmp-*"):
        shutil.rmtree(left)


def _parent_and_stem(target: str) -> tuple[str, str]:
    parent, name = os.path.split(os.path.abspath(target))
    return parent, os.path.join(parent, f".{name}")


def _flush(path: str) -> None:
    """Forces a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
