"""Files inside zip archives: the central directory is read once, an entry's bytes with one read, from any thread."""

from __future__ import annotations

import errno
import os
import re
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

_IN_ZIP = re.compile(r"(.+?\.zip)!/(.+)", re.IGNORECASE | re.DOTALL)
# APPNOTE.TXT 4.3.7: the header that stands before each entry's data; its last two fields say how much follows.
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_MAGIC = b"PK\x03\x04"
# Name and extra field, which stand between header and data, seldom take more: all comes with one read.
_NAME_ROOM = 512
# Open files kept for the next reads, over all archives: far below the 1,024 that a process may have.
_MAX_IDLE = 32


class ZipEntry(NamedTuple):
    """Where an entry stands in its archive, and what its bytes must be."""

    offset: int
    packed_size: int
    size: int
    crc: int
    method: int
    encrypted: bool


def split_zip_uri(uri: str) -> tuple[str, str] | None:
    """(archive, entry name) of `ARCHIVE.zip!/ENTRY`; None for any other URI."""
    match = _IN_ZIP.fullmatch(uri)
    return (match[1], match[2]) if match else None


def read_directory(stream: BinaryIO) -> dict[str, ZipEntry]:
    """The entries of a zip archive by name, folders left out; of entries of one name the last, as unzip keeps it.

    Raises:
        ValueError: it is no zip archive, or a damaged one.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            return {
                info.filename: ZipEntry(
                    info.header_offset,
                    info.compress_size,
                    info.file_size,
                    info.CRC,
                    info.compress_type,
                    bool(info.flag_bits & 1),
                )
                for info in archive.infolist()
                if not info.is_dir()
            }
    except OSError:
        raise
    except Exception as error:  # struct.error, UnicodeDecodeError, NotImplementedError, ... beside BadZipFile
        raise ValueError(str(error)) from error


def read_entry(stream: BinaryIO, entry: ZipEntry, limit: int | None = None) -> bytes:
    """The entry's content, its length and CRC checked.

    Args:
        stream: the archive, seekable.
        limit: most bytes the content may have; checked before anything is unpacked.

    Raises:
        OSError: it is damaged, encrypted, packed by a method other than stored and deflated, or too long.
    """
    if entry.encrypted:
        raise OSError("the zip entry is encrypted; unpack it with its password, and read the files")
    if entry.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise OSError(f"zip method {entry.method}: expected stored (0) or deflated (8); unpack it, and read the files")
    if limit is not None and max(entry.size, entry.packed_size) > limit:
        raise OSError(f"larger than {limit} bytes")
    packed = _packed_bytes(stream, entry)
    data = packed if entry.method == zipfile.ZIP_STORED else _inflate(packed, entry.size)
    if len(data) != entry.size or zlib.crc32(data) != entry.crc:
        raise OSError("damaged zip entry: its length or CRC differs from the zip's directory; fetch the zip again")
    return data


def _packed_bytes(stream: BinaryIO, entry: ZipEntry) -> bytes:
    stream.seek(entry.offset)
    block = stream.read(_LOCAL_HEADER.size + _NAME_ROOM + entry.packed_size)
    if len(block) < _LOCAL_HEADER.size or not block.startswith(_LOCAL_MAGIC):
        raise OSError("damaged zip entry: no entry begins where the zip's directory says; fetch the zip again")
    _, name, extra = _LOCAL_HEADER.unpack_from(block)
    start = _LOCAL_HEADER.size + name + extra
    missing = start + entry.packed_size - len(block)
    if missing > 0:
        block += stream.read(missing)
    return block[start : start + entry.packed_size]


def _inflate(packed: bytes, size: int) -> bytes:
    try:
        # One byte over what is declared tells an entry that unpacks to more, and nothing beyond it is unpacked.
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)
    except zlib.error as error:
        raise OSError(f"damaged zip entry: {error}; fetch the zip again") from error


@dataclass(frozen=True)
class _Directory:
    state: Hashable
    entries: Mapping[str, ZipEntry]


class ZipArchives:
    """The archives that this process reads from: each directory parsed once, open files shared by all threads.

    Args:
        open_stream: opens an archive for reading here and there.
        state: what changes when an archive does, cheap to ask for; None where that cannot be told cheaply.
    """

    def __init__(self, open_stream: Callable[[str], BinaryIO], state: Callable[[str], Hashable]) -> None:
        self._open_stream = open_stream
        self._state = state
        self._directories: dict[str, _Directory] = {}
        self._idle: list[tuple[str, Hashable, BinaryIO]] = []
        self._lock = threading.Lock()

    def entries(self, path: str, fresh: bool = False) -> Mapping[str, ZipEntry]:
        """The archive's entries by name.

        Args:
            fresh: parse the directory even if it is known and the archive looks unchanged.

        Raises:
            ValueError: it is no zip archive, or a damaged one.
            OSError: it cannot be read.
        """
        return self._directory(path, fresh).entries

    def read(self, path: str, name: str, limit: int | None = None) -> bytes:
        """The content of one entry, as `read_entry` gives it.

        Raises:
            OSError: there is no such entry, or it cannot be read.
            ValueError: the archive is none, or damaged.
        """
        directory = self._directory(path)
        entry = directory.entries.get(name)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, "no entry of this name in the zip", name)
        stream = self._take(path, directory.state)
        try:
            data = read_entry(stream, entry, limit)
        except Exception:
            stream.close()
            raise
        self._give_back(path, directory.state, stream)
        return data

    def _directory(self, path: str, fresh: bool = False) -> _Directory:
        with self._lock:
            state = self._state(path)
            known = self._directories.get(path)
            if known is None or fresh or known.state != state:
                self._close_idle(path)
                with self._open_stream(path) as stream:
                    known = _Directory(state, read_directory(stream))
                self._directories[path] = known
            return known

    def _take(self, path: str, state: Hashable) -> BinaryIO:
        with self._lock:
            for position, (of, then, stream) in enumerate(self._idle):
                if of == path and then == state:
                    del self._idle[position]
                    return stream
        return self._open_stream(path)

    def _give_back(self, path: str, state: Hashable, stream: BinaryIO) -> None:
        with self._lock:
            self._idle.append((path, state, stream))
            if len(self._idle) > _MAX_IDLE:
                self._idle.pop(0)[2].close()

    def _close_idle(self, path: str) -> None:
        for of, _, stream in self._idle:
            if of == path:
                stream.close()
        self._idle = [idle for idle in self._idle if idle[0] != path]


def local_state(path: str) -> Hashable:
    """Size and time of a local file's last change."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns
