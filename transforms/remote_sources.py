"""Files of features on remote storage, gs:// for one: found, and read record by record or through a local copy."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from apache_beam.io.filesystem import FileSystem
from apache_beam.io.filesystems import FileSystems

from region_features.lmdb_store.reader import DATA_FILE
from region_features.lmdb_store.value_codecs import SOURCE_FILE
from region_features.records.failure import Failure
from region_features.records.region_record import RegionRecord
from region_features.sources.base import Place, Source
from region_features.sources.storage import Entry, Storage
from transforms import files
from transforms.beam_private import open_for_random_reads
from transforms.input_files import state_of_object
from transforms.local_copies import LocalCopy
from transforms.remote_errors import as_os_errors
from transforms.remote_listing import describe_file, list_remote, match_files


class RemoteStorage(Storage):
    """A file system that Beam knows."""

    def expand(self, pattern: str) -> list[Entry]:
        """Return the files and folders that a path or a glob names."""
        pattern = pattern.rstrip("/")
        if not glob.has_magic(pattern):
            entry = self.entry(pattern)
            return [entry] if entry else []
        if "**" in pattern:
            return [Entry(found.path, False, found.size_in_bytes) for found in match_files(pattern)]
        # Beam's globs name files only: a folder has the name of its files, up to the depth of the glob.
        is_match, depth = re.compile(FileSystem.translate_pattern(pattern)).match, pattern.count("/") + 1
        entries: dict[str, Entry] = {}
        for found in match_files(f"{pattern}**"):
            path = "/".join(found.path.split("/")[:depth])
            if is_match(path):
                is_folder = path != found.path
                entries[path] = Entry(path, is_folder, -1 if is_folder else found.size_in_bytes)
        return sorted(entries.values())

    def entry(self, path: str) -> Entry | None:
        """Return the file, or the folder with files in it, at a path."""
        with as_os_errors(path):
            if FileSystems.exists(path):
                return Entry(path, False)
        return Entry(path, True) if any(True for _ in list_remote(path)) else None

    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield the files and folders directly in a folder."""
        for name, size in list_remote(folder):
            yield Entry(files.join(folder, name), size is None, -1 if size is None else size)

    def open(self, path: str) -> BinaryIO:
        """Open a file to read large parts of it ahead."""
        return files.open_stream(path)

    def open_piece(self, path: str, num_bytes: int) -> BinaryIO:
        """Open a file to fetch little more than a piece."""
        with as_os_errors(path):
            return open_for_random_reads(path, num_bytes)

    def on_disk(self, kind: Callable[[str], Source], path: str, *others: str) -> Source:
        """Copy the files to the local disk, and open the source there."""
        states = {uri: state_of_object(describe_file(uri)) for uri in self._files(path, *others)}
        return CopiedSource(kind, path, LocalCopy(states))

    def _files(self, *paths: str) -> Iterator[str]:
        for path in paths:
            names = (path, *(files.join(path, name) for name in (DATA_FILE, SOURCE_FILE)))
            with as_os_errors(path):
                yield from filter(FileSystems.exists, names)


class CopiedSource(Source):
    """A source that is read in a copy, and says of itself where its file really is."""

    def __init__(self, kind: Callable[[str], Source], path: str, copy: LocalCopy) -> None:
        super().__init__(path)
        self.copy = copy
        with self._original():
            self._source = kind(copy.path_of(path))

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The format."""
        with self._original():
            return self._source.kind

    @property
    def sizes(self) -> str:  # type: ignore[override]
        """What it says of the images' sizes."""
        with self._original():
            return self._source.sizes

    def files(self, place: str) -> tuple[str, ...]:
        """Return the paths of the remote files that hold the record at a place."""
        return tuple(map(self.copy.original, self._source.files(place)))

    @property
    def default_set(self) -> str:
        """Name of the image set of ids that do not name one."""
        return self._source.default_set

    def places(self) -> Iterator[Place | Failure]:
        """Read as little as possible of the copy."""
        with self._original():
            for entry in self._source.places():
                if isinstance(entry, Failure):
                    uri, reason = map(self.copy.original, (entry.uri, entry.reason))
                    yield replace(entry, uri=uri, reason=reason)
                else:
                    yield entry

    def read(self, place: str) -> RegionRecord:
        """Read one record of the copy."""
        with self._original():
            return self._source.read(place)

    @contextmanager
    def _original(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise ValueError(self.copy.original(str(error))) from error
