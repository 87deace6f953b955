"""Wait until a local file or folder is on the disk, so that a power cut does not take back what was published."""

from __future__ import annotations

import contextlib
import os

from apache_beam.io.filesystems import FileSystems


def rename_whole(temporary: str, path: str) -> None:
    """Rename a file that is written to its end; a local one is on the disk before it has the name, and afterwards.

    Raises:
        OSError: it cannot be renamed.
    """
    is_local = FileSystems.get_scheme(path) is None
    if is_local:
        sync_file(temporary)
    FileSystems.rename([temporary], [path])
    if is_local:
        sync_folder(os.path.dirname(path))


def sync_file(path: str) -> None:
    """Wait until the content of a file is on the disk.

    Raises:
        OSError: it cannot be opened, or the disk failed to write it.
    """
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def sync_folder(path: str) -> None:
    """Wait until the names in a folder are on the disk, where its file system can say so."""
    descriptor = os.open(path or ".", os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network disks refuse this for folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
