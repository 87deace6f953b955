"""Files through Beam's FileSystems, so that gs:// is a path like any other."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Container, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from typing import Any, BinaryIO
from zipfile import ZipInfo

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from region_features.images.zip_archive import ZipArchives, local_state, split_zip_uri
from transforms.beam_private import open_for_random_reads
from transforms.durable import rename_whole, sync_file, sync_folder
from transforms.remote_errors import as_os_errors
from transforms.remote_listing import list_remote

# Names with this prefix are unfinished work, never part of the output.
TEMP_PREFIX = ".tmp-"
_CHUNK = 1 << 22
_THREADS = 16


def is_remote(path: str) -> bool:
    """Return whether the path names a file system other than the local one."""
    return "://" in path and FileSystems.get_scheme(path) is not None


def join(base: str, *parts: str) -> str:
    """Join path components for the file system of `base`."""
    return FileSystems.join(base, *parts)


def temp_name(path: str) -> str:
    """Make a name beside `path` that no other attempt uses."""
    head, tail = FileSystems.split(path)
    return join(head, f"{TEMP_PREFIX}{uuid.uuid4().hex}-{tail}")


def split_zip(uri: str) -> tuple[str, str] | None:
    """Split a URI `ARCHIVE.zip!/ENTRY`; None for any other, and for a local file of such a name."""
    return split_zip_uri(uri) if "!/" in uri and (is_remote(uri) or not os.path.lexists(uri)) else None


def zip_entries(path: str) -> Mapping[str, ZipInfo]:
    """Read the directory of a zip archive as it is now: the files in it by name.

    Raises:
        ValueError: it is no zip archive, or a damaged one.
        OSError: it cannot be read.
    """
    return _ZIPS.entries(path, fresh=True)


def open_stream(path: str) -> BinaryIO:
    """Open a file for reading as it is stored, whatever its name ends in.

    Raises:
        OSError: it cannot be opened.
    """
    with as_os_errors(path):
        return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def read_bytes(path: str, limit: int | None = None) -> bytes:
    """Read a file, or an entry of a zip archive (`ARCHIVE.zip!/ENTRY`).

    Raises:
        OSError: it cannot be read, is no regular file, or is longer than `limit` bytes.
        ValueError: the archive is no zip archive, or damaged.
    """
    in_zip = split_zip(path)
    if in_zip:
        return _ZIPS.read(*in_zip, limit)
    _check_regular(path)
    with as_os_errors(path), open_stream(path) as stream:
        if limit is None:
            return stream.read()
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise OSError(f"larger than {limit} bytes")
    return data


def _check_regular(path: str) -> None:
    if not is_remote(path) and not stat.S_ISREG(os.stat(path).st_mode):
        kind = "a directory" if os.path.isdir(path) else "a special file"
        raise OSError(f"expected a regular file, found {kind}")


def _open_random(path: str) -> BinaryIO:
    _check_regular(path)
    with as_os_errors(path):
        return open_for_random_reads(path)


def _zip_state(path: str) -> Hashable:
    """Return what changes when an archive does; not of a remote one, where it would cost a request an image."""
    return None if is_remote(path) else local_state(path)


_ZIPS = ZipArchives(_open_random, _zip_state)


def publish_bytes(path: str, chunks: Iterable[bytes]) -> int:
    """Write a file under a temporary name, then rename it: the path holds the whole content or what it held before.

    A local file is on the disk at the end.

    Returns:
        Bytes written.
    """
    if not is_remote(path) and os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    temporary = temp_name(path)
    written = 0
    try:
        with (
            as_os_errors(path),
            FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as stream,
        ):
            for chunk in chunks:
                stream.write(chunk)
                written += len(chunk)
        rename_whole(temporary, path)
    except BaseException:
        with contextlib.suppress(Exception):  # the caller should see what stopped the writing
            delete_files([temporary])
        raise
    return written


def publish_file(local: str, path: str) -> int:
    """Give a whole local file its place: by renaming it on its own disk, else by a copy that appears when it is whole.

    Returns:
        Bytes of the file.

    Raises:
        OSError: it cannot be written there.
    """
    size = os.path.getsize(local)
    if not is_remote(path):
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        sync_file(local)
        try:
            os.replace(local, path)
            sync_folder(os.path.dirname(path))
            return size
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    with open(local, "rb") as stream:
        return publish_bytes(path, chunks_of(stream))


def digest_of(path: str) -> dict[str, Any]:
    """Return `bytes` and `sha256` of a file, as manifest.json lists it.

    Raises:
        OSError: it cannot be read.
    """
    with as_os_errors(path), open_stream(path) as stream:
        return digest_of_chunks(chunks_of(stream))


def digest_of_chunks(chunks: Iterable[bytes]) -> dict[str, Any]:
    """Return `bytes` and `sha256` of a file's content, given in parts."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


def digest_of_bytes(data: bytes) -> dict[str, Any]:
    """Return `bytes` and `sha256` of a file's content, as manifest.json lists it."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def sha256_of(path: str) -> str:
    """Return the hex SHA-256 of a file; raises as `digest_of`."""
    return str(digest_of(path)["sha256"])


def chunks_of(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the rest of a stream in parts of 4 MiB."""
    while chunk := stream.read(_CHUNK):
        yield chunk


def size_of(path: str) -> int:
    """Return the bytes of a file.

    Raises:
        FileNotFoundError: there is none.
    """
    if not is_remote(path):
        return os.path.getsize(path)
    with as_os_errors(path):
        return int(FileSystems.get_filesystem(path).size(path))


def list_folder(folder: str) -> dict[str, int]:
    """Return name -> bytes of the files directly in `folder`; empty where there is no such folder."""
    if is_remote(folder):
        return {name: size for name, size in list_remote(folder) if size is not None}
    if not os.path.isdir(folder):
        return {}
    sizes = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # renamed or deleted since the folder was read
                if entry.is_file():
                    sizes[entry.name] = entry.stat().st_size
    return sizes


def delete_files(paths: Iterable[str]) -> None:
    """Delete files that exist.

    Raises:
        OSError: one cannot be deleted, is a folder, or is a remote path that Beam would take for a pattern.
    """
    remote = []
    for path in paths:
        if is_remote(path):
            remote.append(path)
        else:
            # Not by Beam's delete, which takes `*`, `?` and `[` for a pattern and deletes whatever matches it.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.remove(path)
    with as_os_errors(", ".join(remote)), ThreadPoolExecutor(_THREADS) as pool:
        present = list(compress(remote, pool.map(FileSystems.exists, remote)))
        for path in filter(glob.has_magic, present):
            raise OSError(f"{path}: expected a name without *, ? and [, which would delete more than this; rename it")
        for _ in pool.map(lambda path: FileSystems.delete([path]), present):
            pass


def delete_temporaries(
    folder: str, prefix: str = TEMP_PREFIX, suffix: str = "", spare: Container[str] = frozenset()
) -> None:
    """Delete unfinished work in a folder: files, and local folders, whose names begin and end so; spare some names."""

    def goes(name: str) -> bool:
        return name.startswith(prefix) and name.endswith(suffix) and name not in spare

    if is_remote(folder):
        delete_files(join(folder, name) for name in filter(goes, list_folder(folder)))
    elif os.path.isdir(folder):
        for entry in list(os.scandir(folder)):
            if goes(entry.name):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    delete_files([entry.path])  # which lets another one be faster


def read_many(paths: list[str]) -> list[bytes]:
    """Read small files side by side; return their contents in the order of `paths`."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(read_bytes, paths))
