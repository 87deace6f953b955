"""What lies on remote storage, listed through Beam, or through Google's client where Beam would list too much."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from apache_beam.io.filesystem import BeamIOError, FileMetadata
from apache_beam.io.filesystems import FileSystems

from transforms.beam_private import gcs_client


def match_files(pattern: str) -> list[FileMetadata]:
    """List the files that a pattern of a remote file system names.

    Raises:
        OSError: they cannot be listed.
    """
    with _one_os_error(pattern):
        return FileSystems.match([pattern])[0].metadata_list


def describe_file(path: str) -> FileMetadata:
    """Return size and time of a remote file.

    Raises:
        OSError: there is none, or they cannot be read.
    """
    with _one_os_error(path):
        return FileSystems.get_filesystem(path).metadata(path)


@contextlib.contextmanager
def _one_os_error(path: str) -> Iterator[None]:
    """Raise the innermost of Beam's errors in one line."""
    try:
        yield
    except BeamIOError as error:
        cause: Any = error
        while isinstance(cause, BeamIOError) and cause.exception_details:
            cause = next(iter(cause.exception_details.values()))
        raise OSError(f"{path}: cannot be listed: {cause}; check the path, and that you may read it") from error


def list_remote(folder: str) -> Iterator[tuple[str, int | None]]:
    """Yield name and bytes of each file directly in a remote folder, then name and None of each folder in it.

    Raises:
        OSError: it cannot be listed.
    """
    prefix = folder.rstrip("/") + "/"
    if not folder.startswith("gs://"):
        inside = [(entry.path[len(prefix) :], entry.size_in_bytes) for entry in match_files(f"{prefix}**")]
        yield from ((name, size) for name, size in inside if "/" not in name)
        yield from ((name, None) for name in sorted({name.split("/")[0] for name, _ in inside if "/" in name}))
        return
    # Beam would list the files in all folders below, too.
    bucket, _, inner = prefix.removeprefix("gs://").partition("/")
    try:
        blobs = gcs_client().list_blobs(bucket, prefix=inner, delimiter="/")
        yield from ((blob.name[len(inner) :], blob.size) for blob in blobs if blob.name != inner)
        yield from ((name[len(inner) :].rstrip("/"), None) for name in sorted(blobs.prefixes))
    except Exception as error:  # Google's client has its own kinds of errors
        raise OSError(f"{prefix}: cannot be listed: {error}; check the path, and that you may read it") from error
