"""The file system that files of features lie on: what it takes to find and to read them."""

from __future__ import annotations

import glob
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from region_features.sources.base import Source


class Entry(NamedTuple):
    """A file or a folder.

    Attributes:
        path: with that of the folder it was found in.
        is_folder: whether it is a folder.
        size: of a file in bytes, -1 where that was not asked for.
    """

    path: str
    is_folder: bool
    size: int = -1

    @property
    def name(self) -> str:
        """The last part of its path."""
        return os.path.basename(self.path)


class Storage(ABC):
    """A file system; its methods raise an OSError for what cannot be read."""

    @abstractmethod
    def expand(self, pattern: str) -> list[Entry]:
        """Return what a path or a glob names, sorted by path."""

    @abstractmethod
    def entry(self, path: str) -> Entry | None:
        """Return the file or folder at a path, None if there is none."""

    @abstractmethod
    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield the files and folders directly in a folder, in any order."""

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """Open a file without a buffer, to read it from its start to its end, or to skip through it."""

    @abstractmethod
    def open_piece(self, path: str, num_bytes: int) -> BinaryIO:
        """Open a file to read about so many bytes at one place of it."""

    @abstractmethod
    def on_disk(self, kind: Callable[[str], Source], path: str, *others: str) -> Source:
        """Open a source of a kind that reads here and there in a file on a local disk.

        Args:
            kind: opens a source by its local path.
            path: of the file or the LMDB's folder.
            others: paths of files or folders that are read with it, as far as they are there.
        """


class LocalStorage(Storage):
    """The disks of this machine."""

    def expand(self, pattern: str) -> list[Entry]:
        """Return what a path or a glob names, sorted by path."""
        paths = [pattern] if os.path.lexists(pattern) else sorted(glob.glob(pattern, recursive=True))
        return [Entry(path, os.path.isdir(path)) for path in paths]

    def entry(self, path: str) -> Entry | None:
        """Return the file or folder at a path, None if there is none."""
        return Entry(path, os.path.isdir(path)) if os.path.exists(path) else None

    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield the files and folders directly in a folder, in any order."""
        with os.scandir(folder) as found:
            for entry in found:
                is_folder = entry.is_dir()
                yield Entry(entry.path, is_folder, -1 if is_folder else entry.stat().st_size)

    def open(self, path: str) -> BinaryIO:
        """Open a file."""
        return open(path, "rb", buffering=0)

    def open_piece(self, path: str, num_bytes: int) -> BinaryIO:
        """Open a file."""
        return self.open(path)

    def on_disk(self, kind: Callable[[str], Source], path: str, *others: str) -> Source:
        """Open the source where it is."""
        return kind(path)


LOCAL = LocalStorage()
