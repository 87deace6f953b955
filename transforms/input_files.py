"""Input files as they were when a run was checked, and the comparison with what is read of them later."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple
from zipfile import ZipInfo

import google_crc32c
from apache_beam.io.filesystems import FileSystems

from region_features.download.http import shown
from transforms import files
from transforms.publication import encode_crc32c
from transforms.remote_listing import RemoteFile, match_files

UNKNOWN_SIZE = -1
_CHUNK = 4 << 20
_CHECKSUM = "crc32c "  # begins the version of an object on gs://


class HashingStream:
    """Hashes and counts what is read from a stream."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.num_bytes = 0

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes."""
        data = self._stream.read(size)
        self.digest.update(data)
        self.num_bytes += len(data)
        return data

    def drain(self) -> None:
        """Read to the end."""
        while self.read(_CHUNK):
            pass


class PinnedFile(NamedTuple):
    """An input file and the hex SHA-256 of what was checked before the work started."""

    uri: str
    sha256: str

    def read(self) -> bytes:
        """Read the file.

        Raises:
            OSError: it cannot be read.
            ValueError: it holds something else than was checked.
        """
        data = files.read_bytes(self.uri)
        self.compare(hashlib.sha256(data).hexdigest())
        return data

    @contextlib.contextmanager
    def open(self) -> Iterator[HashingStream]:
        """Open the file, to be read once from its begin.

        Raises:
            OSError: it cannot be read.
            ValueError: at the end of the block: it holds something else than was checked.
        """
        with files.open_stream(self.uri) as stream:
            hashing = HashingStream(stream)
            yield hashing
            hashing.drain()
        self.compare(hashing.digest.hexdigest())

    def compare(self, sha256: str) -> None:
        """Raise a ValueError if this is not the hash of the content that was checked."""
        if sha256 != self.sha256:
            raise ValueError(
                f"{shown(self.uri)}: expected the content that was checked before the start (SHA-256 {self.sha256}), "
                f"got another ({sha256}): it was replaced during the run; put it back, or start afresh with --overwrite"
            )


def content_sha256(uri: str) -> str:
    """Return the hex SHA-256 of an input file, or of an entry of a zip archive.

    Raises:
        OSError: it cannot be read.
        ValueError: the archive is damaged.
    """
    return hashlib.sha256(files.read_bytes(uri)).hexdigest()


class FileState(NamedTuple):
    """What a listing says of a file.

    Attributes:
        size: in bytes; UNKNOWN_SIZE for a file that cannot be read.
        version: another text once the file changes: the time of its last change, the CRC of a zip's entry, or the
            checksum of an object on gs://; empty where the file system does not say.
    """

    size: int = UNKNOWN_SIZE
    version: str = ""


def state_of_status(status: os.stat_result) -> FileState:
    """Return the state of a local file, its time in nanoseconds."""
    return FileState(status.st_size, str(status.st_mtime_ns))


def state_of_object(entry: RemoteFile) -> FileState:
    """Return the state of a remote file: its checksum where it is listed with one, else its time in seconds."""
    if entry.crc32c:
        return FileState(entry.size_in_bytes, _CHECKSUM + entry.crc32c)
    time = entry.last_updated_in_seconds
    return FileState(entry.size_in_bytes, f"{time:.6f}" if time else "")


def state_of_entry(entry: ZipInfo | None) -> FileState:
    """Return the state of a zip's entry, unknown for None."""
    return FileState(entry.file_size, f"{entry.CRC:08x}") if entry else FileState()


def folder_states(folder: str) -> dict[str, FileState]:
    """Return name -> state of the files directly in a remote folder.

    Raises:
        OSError: it cannot be listed.
    """
    prefix = folder.rstrip("/") + "/"
    return {entry.path[len(prefix) :]: state_of_object(entry) for entry in match_files(prefix + "*")}


def find_states(
    uris: Sequence[str], zip_entries: Callable[[str], Mapping[str, ZipInfo]] = files.zip_entries
) -> Iterator[tuple[str, FileState]]:
    """Yield each URI with its state, in order; that of a missing file is unknown.

    Args:
        uris: files, and entries of zip archives.
        zip_entries: reads the directory of an archive.

    Raises:
        OSError: a remote folder cannot be listed, or a zip archive cannot be read.
        ValueError: a zip archive is damaged.
    """
    remote = [uri for uri in uris if files.is_remote(uri) and not files.split_zip(uri)]
    # One listing per folder instead of one request per image.
    folders = {FileSystems.split(uri)[0] for uri in remote}
    listed = {files.join(folder, name): state for folder in folders for name, state in folder_states(folder).items()}
    directories: dict[str, Mapping[str, ZipInfo]] = {}
    for uri in uris:
        in_zip = files.split_zip(uri)
        if in_zip:
            archive, name = in_zip
            if archive not in directories:
                directories[archive] = zip_entries(archive)
            yield uri, state_of_entry(directories[archive].get(name))
        elif files.is_remote(uri):
            yield uri, listed.get(uri, FileState())
        else:
            yield uri, _local_state(uri)


def _local_state(path: str) -> FileState:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return FileState()
    return state_of_status(status) if stat.S_ISREG(status.st_mode) else FileState()


def is_as_listed(uri: str, data: bytes, listed: FileState) -> bool:
    """Return whether what was read of a file is what was listed, as far as can be told without another request."""
    if listed.size not in (UNKNOWN_SIZE, len(data)):
        return False
    if not listed.version:
        return True
    if files.split_zip(uri):
        return f"{zlib.crc32(data):08x}" == listed.version
    if listed.version.startswith(_CHECKSUM):
        return encode_crc32c(google_crc32c.value(data)) == listed.version.removeprefix(_CHECKSUM)
    return files.is_remote(uri) or _local_state(uri) == listed
