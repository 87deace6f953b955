"""Small files through Beam's FileSystems, so that gs:// is a path like any other."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from region_features.images.zip_archive import ZipArchives, ZipEntry, local_state, split_zip_uri

# Names with this prefix are unfinished work, never part of the output.
TEMP_PREFIX = ".tmp-"
_CHUNK = 1 << 22
# What one read here and there in a remote file fetches at least; Google's reader would fetch 16 MiB for each.
_RANDOM_CHUNK = 1 << 16


def is_remote(path: str) -> bool:
    """Whether the path names a file system other than the local one."""
    return FileSystems.get_scheme(path) is not None


def join(base: str, *parts: str) -> str:
    """Join path components for the file system of `base`."""
    return FileSystems.join(base, *parts)


def temp_name(path: str) -> str:
    """A name beside `path` that no other attempt uses."""
    head, tail = FileSystems.split(path)
    return join(head, f"{TEMP_PREFIX}{uuid.uuid4().hex}-{tail}")


def split_zip(uri: str) -> tuple[str, str] | None:
    """(archive, entry) of a URI `ARCHIVE.zip!/ENTRY`; None for any other, and for a local file of such a name."""
    return split_zip_uri(uri) if is_remote(uri) or not os.path.lexists(uri) else None


def zip_entries(path: str) -> Mapping[str, ZipEntry]:
    """The files in a zip archive by name, from its directory as it is now.

    Raises:
        ValueError: it is no zip archive, or a damaged one.
        OSError: it cannot be read.
    """
    return _ZIPS.entries(path, fresh=True)


def read_bytes(path: str, limit: int | None = None) -> bytes:
    """The content of a file, or of an entry of a zip archive (`ARCHIVE.zip!/ENTRY`).

    Raises:
        OSError: it cannot be read, is no regular file, or is longer than `limit` bytes.
        ValueError: the archive is none, or damaged.
    """
    in_zip = split_zip(path)
    if in_zip:
        return _ZIPS.read(*in_zip, limit)
    _check_regular(path)
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
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
    stream = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    # Only the class behind gs:// has this field, and FileSystems.open has no argument for it.
    if hasattr(stream, "_chunk_size"):
        stream._chunk_size = _RANDOM_CHUNK
    return stream


def _zip_state(path: str) -> Hashable:
    """What tells that an archive changed; asking a remote one would cost a request an image."""
    return None if is_remote(path) else local_state(path)


_ZIPS = ZipArchives(_open_random, _zip_state)


def publish_bytes(path: str, chunks: Iterable[bytes]) -> int:
    """Write under a temporary name, then rename: the path holds the whole content or what it held before.

    Returns:
        Bytes written.
    """
    temporary = temp_name(path)
    written = 0
    try:
        with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            for chunk in chunks:
                stream.write(chunk)
                written += len(chunk)
        FileSystems.rename([temporary], [path])
    except BaseException:
        with contextlib.suppress(Exception):  # what stopped the writing is what the caller should hear of
            delete_files([temporary])
        raise
    return written


def sha256_of(path: str) -> str:
    """Hex SHA-256 of the file.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def match(pattern: str) -> list[FileMetadata]:
    """The files that a pattern of a remote file system names.

    Raises:
        OSError: they cannot be listed.
    """
    try:
        return FileSystems.match([pattern])[0].metadata_list
    except BeamIOError as error:
        cause: Any = error
        while isinstance(cause, BeamIOError) and cause.exception_details:
            cause = next(iter(cause.exception_details.values()))
        raise OSError(f"{pattern}: cannot be listed: {cause}; check the path, and that you may read it") from error


def list_folder(folder: str) -> dict[str, int]:
    """Name -> size in bytes of the files directly in `folder`; empty where there is none."""
    if is_remote(folder):
        prefix = folder.rstrip("/") + "/"
        found = match(prefix + "*")
        return {entry.path[len(prefix) :]: entry.size_in_bytes for entry in found}
    if not os.path.isdir(folder):
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def delete_files(paths: Iterable[str]) -> None:
    """Delete files (or local folders) that exist.

    Raises:
        OSError: one cannot be deleted, or is a remote path that Beam would take for a pattern.
    """
    remote = []
    for path in paths:
        if is_remote(path):
            remote.append(path)
        # Not by Beam's delete, which takes `*`, `?` and `[` for a pattern and deletes whatever matches it.
        elif os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.remove(path)
    present = [path for path in remote if FileSystems.exists(path)]
    for path in filter(glob.has_magic, present):
        raise OSError(f"{path}: expected a name without *, ? and [, which would delete more than this; rename it")
    if present:
        FileSystems.delete(present)


def read_many(paths: list[str]) -> list[bytes]:
    """The contents of small files, read side by side, in the order of `paths`."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(read_bytes, paths))
