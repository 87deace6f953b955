"""Images that are named one by one: on the command line, or in a text file, one a line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from zipfile import ZipInfo

from region_features.download.http import shown
from transforms import files
from transforms.input_files import UNKNOWN_SIZE, FileState, find_states

_LONGEST_URI = 8192  # twice Linux's longest path
_WEB = ("http://", "https://")


def listed_files(source: str) -> Iterator[tuple[str, FileState]]:
    """Yield the files that a .txt names, with their states; those that are not there too, unless none is."""
    uris = _read_list_file(source)
    missing = 0
    for uri, state in find_named(uris):
        missing += state.size == UNKNOWN_SIZE and not os.path.lexists(uri)
        if missing == len(uris):
            raise ValueError(
                f"--images {source}: expected the paths of images, a line each, but none of {len(uris)} is there, "
                f"{uris[0]} for one; paths in it start from the folder where the program is started, {os.getcwd()}"
            )
        yield uri, state


def _read_list_file(source: str) -> list[str]:
    """Read the URIs of a .txt; blank lines and lines that begin with # are left out, but for files of such a name."""
    expected = f"--images {source}: expected a UTF-8 text file of URIs, got"
    try:
        lines = files.read_bytes(source).split(b"\n")  # splitlines() of text would split at U+2028
        for number, line in enumerate(lines, start=1):
            if len(line) > _LONGEST_URI:
                raise ValueError(f"{expected} {len(line)} bytes in line {number}: {line[:20]!r}...")
        uris = [line.decode("utf-8-sig" if number == 0 else "utf-8").strip() for number, line in enumerate(lines)]
    except (OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ValueError(f"{expected}: {reason}") from error
    for number, uri in enumerate(uris, start=1):
        if uri.startswith(_WEB):
            refuse_address(uri, f"--images {source}, line {number}: {shown(uri)}")
    return [uri for uri in uris if uri and not (uri.startswith("#") and not os.path.lexists(uri))]


def refuse_address(source: str, where: str) -> None:
    """Raise a ValueError for an address of the web; `where` names it."""
    if source.startswith(_WEB):
        raise ValueError(
            f"{where}: expected a local path or a bucket's; images are not fetched from web addresses, since one may "
            "answer with another image at the next run: download them first (wget --input-file LIST.txt "
            "--directory-prefix photos), or copy them into a bucket"
        )


def find_named(uris: Sequence[str]) -> Iterator[tuple[str, FileState]]:
    """Yield each URI with its state, as `find_states` does; an archive that cannot be read is a ValueError."""
    return find_states(uris, zip_entries)


def zip_entries(archive: str) -> Mapping[str, ZipInfo]:
    """Read the directory of a zip archive; a ValueError names one that cannot be read."""
    try:
        return files.zip_entries(archive)
    except Exception as error:  # remote file systems raise their own classes
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{archive}: expected a zip archive, got: {reason}; fetch it again") from error
