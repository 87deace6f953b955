"""What lies on remote storage, listed through Beam, or through Google's client where Beam would list too much."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from apache_beam.io.filesystem import BeamIOError, FileSystem
from apache_beam.io.filesystems import FileSystems

from transforms.beam_private import gcs_client

_GLOB = re.compile(r"[\[*?]")  # what Beam takes for a pattern begins here


class RemoteFile(NamedTuple):
    """A remote file as its file system lists it.

    Attributes:
        path: where it is.
        size_in_bytes: its length.
        last_updated_in_seconds: the time of its last change, None where that is not known.
        crc32c: of its content, in base64; empty where the file system does not list it.
    """

    path: str
    size_in_bytes: int
    last_updated_in_seconds: float | None
    crc32c: str = ""

    @classmethod
    def of_blob(cls, path: str, blob: Any) -> RemoteFile:
        """Describe a `google.cloud.storage.Blob`."""
        return cls(path, blob.size, blob.updated.timestamp() if blob.updated else None, blob.crc32c or "")


def match_files(pattern: str) -> list[RemoteFile]:
    """List the files that a pattern of a remote file system names.

    Raises:
        OSError: they cannot be listed.
    """
    with _one_os_error(pattern):
        if pattern.startswith("gs://") and _GLOB.search(pattern):
            return list(_match_objects(pattern))
        found = FileSystems.match([pattern])[0].metadata_list
    return [RemoteFile(entry.path, entry.size_in_bytes, entry.last_updated_in_seconds) for entry in found]


def _match_objects(pattern: str) -> Iterator[RemoteFile]:
    """List objects as Beam does, which passes over their checksums."""
    whole = re.compile(FileSystem.translate_pattern(pattern + "*" * pattern.endswith("/")))
    bucket, _, start = _GLOB.split(pattern, maxsplit=1)[0].removeprefix("gs://").partition("/")
    for blob in gcs_client().list_blobs(bucket, prefix=start):
        path = f"gs://{bucket}/{blob.name}"
        if whole.match(path):
            yield RemoteFile.of_blob(path, blob)


def describe_file(path: str) -> RemoteFile:
    """Return size, time and checksum of a remote file.

    Raises:
        OSError: there is none, or they cannot be read.
    """
    with _one_os_error(path):
        if path.startswith("gs://"):
            bucket, _, name = path.removeprefix("gs://").partition("/")
            blob = gcs_client().bucket(bucket).get_blob(name)
            if blob is None:
                raise FileNotFoundError("there is no such object")
            return RemoteFile.of_blob(path, blob)
        entry = FileSystems.get_filesystem(path).metadata(path)
    return RemoteFile(path, entry.size_in_bytes, entry.last_updated_in_seconds)


@contextlib.contextmanager
def _one_os_error(path: str) -> Iterator[None]:
    """Raise the innermost of Beam's errors in one line."""
    try:
        yield
    except BeamIOError as error:
        cause: Any = error
        while isinstance(cause, BeamIOError) and cause.exception_details:
            cause = next(iter(cause.exception_details.values()))
        raise _unlisted(path, cause) from error
    except ValueError:  # Beam knows no such file system
        raise
    except Exception as error:  # Google's client has its own kinds of errors
        raise _unlisted(path, error) from error


def _unlisted(path: str, cause: object) -> OSError:
    return OSError(f"{path}: cannot be listed: {cause}; check the path, and that you may read it")


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
        raise _unlisted(prefix, error) from error
