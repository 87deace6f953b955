"""Folders as a whole: which stand in one, and deleting one with everything below it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from apache_beam.io.filesystems import FileSystems

from transforms import files
from transforms.beam_private import gcs_client
from transforms.remote_listing import match_files


@contextlib.contextmanager
def google_errors(path: str) -> Iterator[None]:
    """Raise what Google's client raises as an OSError that names the path."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{path}: cannot be reached: {error}") from error


def list_subfolders(folder: str) -> list[str]:
    """Return the names of the folders directly in `folder`, sorted; none where there is no such folder.

    Raises:
        OSError: it cannot be listed.
    """
    if not files.is_remote(folder):
        if not os.path.isdir(folder):
            return []
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    prefix = folder.rstrip("/") + "/"
    if folder.startswith("gs://"):  # Beam would list every object below
        bucket, _, inner = prefix.removeprefix("gs://").partition("/")
        with google_errors(folder):
            pages = gcs_client().list_blobs(bucket, prefix=inner, delimiter="/").pages
            names = [name for page in pages for name in page.prefixes]
        return sorted(name[len(inner) :].rstrip("/") for name in names)
    paths = (entry.path[len(prefix) :] for entry in match_files(prefix + "**"))
    return sorted({path.partition("/")[0] for path in paths if "/" in path})


def delete_tree(folder: str) -> None:
    """Delete a folder and everything below it; one that is not there is no error.

    Raises:
        OSError: something below it cannot be deleted.
    """
    if not files.is_remote(folder):
        if os.path.lexists(folder):
            shutil.rmtree(folder)
        return
    prefix = folder.rstrip("/") + "/"
    if match_files(prefix + "**"):
        FileSystems.delete([prefix])  # Beam only logs what it could not delete
        left = match_files(prefix + "**")
        if left:
            raise OSError(
                f"{folder}: {len(left)} files cannot be deleted, {left[0].path} for one; may you delete there?"
            )
