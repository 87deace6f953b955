"""Files in zip archives: each central directory is read once, each file with one read, from any thread."""

from __future__ import annotations

import errno
import os
import re
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Hashable, Mapping
from typing import BinaryIO
from zipfile import ZipInfo

# The folder that macOS adds to its archives, with a `._a.jpg` for each `a.jpg`.
MAC_LEFTOVERS = "__MACOSX"
_ZIP_URI = re.compile(r"(.+?\.zip)!/(.+)", re.IGNORECASE | re.DOTALL)
# APPNOTE.TXT 4.3.7: the header before each file's data; its last two fields are the lengths of name and extra field.
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_MAGIC = b"PK\x03\x04"
# Bytes that name and extra field seldom exceed: header and data then come with one read.
_NAME_BYTES = 512
# Open files kept for later reads, in all archives; far below the 1,024 that a process may have.
_MAX_IDLE = 32


def split_zip_uri(uri: str) -> tuple[str, str] | None:
    """Split `ARCHIVE.zip!/ENTRY` into archive and entry; None for any other URI."""
    match = _ZIP_URI.fullmatch(uri)
    return (match[1], match[2]) if match else None


def list_entries(archive: str | BinaryIO) -> list[ZipInfo]:
    """List the files of a zip archive, given as a local path or a seekable stream; folders are left out.

    Raises:
        ValueError: it is not a zip archive, or damaged.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            return [info for info in opened.infolist() if not info.is_dir()]
    except OSError:
        raise
    except Exception as error:  # BadZipFile, struct.error, UnicodeDecodeError, NotImplementedError, ...
        raise ValueError(str(error)) from error


def read_entry(stream: BinaryIO, info: ZipInfo, limit: int | None = None) -> bytes:
    """Read one file of an archive, and check its length and CRC.

    `limit` is the most bytes that the file may have; it is checked before the file is unpacked.

    Raises:
        OSError: the file is damaged, encrypted, too long, or packed by a method other than stored and deflated.
    """
    if info.flag_bits & 1:
        raise OSError("the zip entry is encrypted; unpack it with its password, and read the files")
    method = info.compress_type
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise OSError(f"zip method {method}: expected stored (0) or deflated (8); unpack it, and read the files")
    if limit is not None and max(info.file_size, info.compress_size) > limit:
        raise OSError(f"larger than {limit} bytes")
    packed = _packed_bytes(stream, info)
    data = packed if method == zipfile.ZIP_STORED else _inflate(packed, info.file_size)
    if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
        raise OSError("damaged zip entry: its length or CRC differs from the zip's directory; fetch the zip again")
    return data


def _packed_bytes(stream: BinaryIO, info: ZipInfo) -> bytes:
    stream.seek(info.header_offset)
    block = stream.read(_LOCAL_HEADER.size + _NAME_BYTES + info.compress_size)
    if len(block) < _LOCAL_HEADER.size or not block.startswith(_LOCAL_MAGIC):
        raise OSError("damaged zip entry: no entry begins where the zip's directory says; fetch the zip again")
    _, name_length, extra_length = _LOCAL_HEADER.unpack_from(block)
    start = _LOCAL_HEADER.size + name_length + extra_length
    missing = start + info.compress_size - len(block)
    if missing > 0:
        block += stream.read(missing)
    return block[start : start + info.compress_size]


def _inflate(packed: bytes, size: int) -> bytes:
    try:
        # One byte more than declared is enough to refuse a file that unpacks to more.
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)
    except zlib.error as error:
        raise OSError(f"damaged zip entry: {error}; fetch the zip again") from error


class ZipArchives:
    """The archives that a process reads: each directory is parsed once, open files are shared by all threads.

    Args:
        open_stream: opens an archive for random reads.
        state: returns a value that changes with the archive, at little cost; None if there is no such value.
    """

    def __init__(self, open_stream: Callable[[str], BinaryIO], state: Callable[[str], Hashable]) -> None:
        self._open_stream = open_stream
        self._state = state
        # Path -> state of the archive, and its directory.
        self._directories: dict[str, tuple[Hashable, Mapping[str, ZipInfo]]] = {}
        # Open files, each with the directory of its version of the archive.
        self._idle: list[tuple[Mapping[str, ZipInfo], BinaryIO]] = []
        self._lock = threading.Lock()

    def entries(self, path: str, fresh: bool = False) -> Mapping[str, ZipInfo]:
        """Return the files of an archive by name; of files of one name the last, as unzip does.

        `fresh` parses the directory again even if the archive seems unchanged.

        Raises:
            ValueError: it is not a zip archive, or damaged.
            OSError: it cannot be read.
        """
        with self._lock:
            state = self._state(path)
            known_state, entries = self._directories.get(path, (None, None))
            if entries is None or fresh or known_state != state:
                with self._open_stream(path) as stream:
                    entries = {info.filename: info for info in list_entries(stream)}
                self._directories[path] = state, entries
            return entries

    def read(self, path: str, name: str, limit: int | None = None) -> bytes:
        """Read one file of an archive, see `read_entry`.

        Raises:
            OSError: the archive has no such file, or it cannot be read.
            ValueError: the archive is not a zip archive, or damaged.
        """
        directory = self.entries(path)
        info = directory.get(name)
        if info is None:
            raise FileNotFoundError(errno.ENOENT, "no entry of this name in the zip", name)
        stream = self._take_idle(directory) or self._open_stream(path)
        try:
            data = read_entry(stream, info, limit)
        except Exception:
            stream.close()
            raise
        with self._lock:
            self._idle.append((directory, stream))
            if len(self._idle) > _MAX_IDLE:
                self._idle.pop(0)[1].close()
        return data

    def _take_idle(self, directory: Mapping[str, ZipInfo]) -> BinaryIO | None:
        with self._lock:
            for index, (owner, stream) in enumerate(self._idle):
                if owner is directory:
                    del self._idle[index]
                    return stream
        return None


def local_state(path: str) -> Hashable:
    """Return size and modification time of a local file."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
