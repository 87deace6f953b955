"""List the images that a user names by patterns, folders, list files, zip archives, or a COCO corpus."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipInfo

from region_features.images.zip_archive import MAC_LEFTOVERS
from region_features.records.coco import IMAGE_SETS, IMAGES_FOLDER
from region_features.records.failure import NAME_STAGE, Failure
from region_features.records.key import lmdb_key
from region_features.records.plan import ImageRef
from transforms import files
from transforms.input_files import (
    FileState,
    find_states,
    folder_states,
    state_of_entry,
    state_of_object,
    state_of_status,
)

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")


# A file name has at most 255 bytes; a shard's temporary name adds 90 to that of its set.
_MAX_SET_BYTES = 160
_LONGEST_URI = 8192  # twice Linux's longest path


# Takes what the spellings of one path have in common, and the image; returns False for an image that it has already.
AddImage = Callable[[str, ImageRef], bool]


@dataclass(frozen=True)
class Listing:
    """What is to be said of the inputs of a run, beside the images.

    Attributes:
        notes: what the user should know about the listing, a line each.
        failures: images with unusable names, and rows of imported files that cannot become images.
    """

    notes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()


def corpus_folders(corpus: str) -> list[str]:
    """Return the image folders that exist in a COCO corpus.

    Raises:
        ValueError: the corpus has none.
    """
    folders = [files.join(corpus, IMAGES_FOLDER, name) for name in IMAGE_SETS]
    present = [folder for folder in folders if _is_folder(folder)]
    if not present:
        raise ValueError(
            f"--corpus {corpus}: expected at least one of the folders {', '.join(folders)}, found none; "
            f"name the folder that holds {IMAGES_FOLDER}/, or use --images"
        )
    return present


def list_images(sources: Sequence[str], add: AddImage) -> Listing:
    """List every image that the sources name, each URI once.

    Args:
        sources: glob patterns, folders, .txt files of URIs (one a line), zip archives, single images, or single
            images in an archive, `ARCHIVE.zip!/ENTRY`.
        add: takes the images.

    Raises:
        ValueError: a source names no image, an archive cannot be read, a file system is not installed, or a folder's
            name cannot be part of a shard's.
    """
    failures: list[Failure] = []
    notes: list[str] = []
    listed = repeated = 0
    first_repeated = ""
    here = os.getcwd()
    folder_of = lru_cache(1024)(partial(_describe_folder, here=here))  # most images have that of the image before
    for source in sources:
        count = 0
        for uri, state in _expand_zips(_expand(source, notes), notes):
            count += 1
            problem = _name_problem(uri)
            if problem:
                failures.append(Failure(*map(_escaped, (uri, _stem(uri), NAME_STAGE, problem))))
                continue
            name_at = uri.rfind("/") + 1
            folder = folder_of(uri[:name_at])
            if add(folder.canonical + uri[name_at:], ImageRef(folder.set_name, _stem(uri), uri, *state)):
                listed += 1
            else:
                repeated, first_repeated = repeated + 1, first_repeated or uri
        if not count:
            raise ValueError(f"{source}: expected images, found none; check the path or the pattern")
    if repeated:
        notes.append(f"{repeated} URIs are listed more than once and read once, {first_repeated} for one")
    if failures:
        notes.append(f"{len(failures)} images have names that cannot be used and are failures: {failures[0].reason}")
    if not listed:
        raise ValueError(f"{' '.join(sources)}: expected images, but none has a usable name: {failures[0].reason}")
    return Listing(tuple(notes), tuple(failures))


def set_of_path(path: str) -> str:
    """Return the name of a file's folder, which is the image set of the files in it."""
    return _set_of_folder(os.path.dirname(path), os.getcwd())


def _set_of_folder(folder: str, here: str) -> str:
    absolute = folder if files.is_remote(folder) else os.path.abspath(os.path.join(here, folder))
    return os.path.basename(absolute) or IMAGES_FOLDER


def expand_pattern(pattern: str) -> Iterator[tuple[str, FileState]]:
    """Yield every file that a glob pattern or a single URI names, with its state."""
    if not glob.has_magic(pattern) or files.split_zip(pattern) or os.path.lexists(pattern):
        yield from _find_states([pattern])
    elif files.is_remote(pattern):
        yield from ((entry.path, state_of_object(entry)) for entry in files.match(pattern))
    else:
        yield from _find_states(sorted(glob.glob(pattern, recursive=True)))


def _expand(source: str, notes: list[str]) -> Iterator[tuple[str, FileState]]:
    """Yield every file that a source names, with its state; zip archives stay whole."""
    if source.lower().endswith(".txt"):
        yield from _find_states(_read_list_file(source))
    elif _is_folder(source):
        images = _only_images(source, _folder_entries(source), notes)
        yield from ((files.join(source, name), state) for name, state in images)
    else:
        yield from expand_pattern(source)


def _expand_zips(uris: Iterable[tuple[str, FileState]], notes: list[str]) -> Iterator[tuple[str, FileState]]:
    """Replace each zip archive by the images in it."""
    for uri, state in uris:
        if uri.lower().endswith(".zip") and not files.split_zip(uri) and not os.path.isdir(uri):
            entries = ((name, state_of_entry(entry)) for name, entry in _zip_entries(uri).items())
            # Not files.join: an entry's name may begin with a slash.
            yield from ((f"{uri}!/{name}", found) for name, found in _only_images(uri, entries, notes))
        else:
            yield uri, state


def _zip_entries(archive: str) -> Mapping[str, ZipInfo]:
    try:
        return files.zip_entries(archive)
    except Exception as error:  # remote file systems raise their own classes
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{archive}: expected a zip archive, got: {reason}; fetch it again") from error


def _find_states(uris: Sequence[str]) -> Iterator[tuple[str, FileState]]:
    return find_states(uris, _zip_entries)


def _read_list_file(source: str) -> list[str]:
    expected = f"--images {source}: expected a UTF-8 text file of URIs, got"
    try:
        lines = files.read_bytes(source).split(b"\n")  # splitlines() of text would split at U+2028
        for number, line in enumerate(lines, start=1):
            if len(line) > _LONGEST_URI:
                raise ValueError(f"{expected} {len(line)} bytes in line {number}: {line[:20]!r}...")
        uris = [line.decode("utf-8-sig" if number == 0 else "utf-8").strip() for number, line in enumerate(lines)]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{expected}: {error}") from error
    return list(filter(None, uris))


def _folder_entries(folder: str) -> Iterator[tuple[str, FileState]]:
    if files.is_remote(folder):
        yield from folder_states(folder).items()
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_file(entry):
                yield entry.name, state_of_status(entry.stat())
            # A folder named like an image stays in the list: the failure to read it tells the user.
            elif entry.name.lower().endswith(_EXTENSIONS) or not _is_folder(entry.path):
                yield entry.name, FileState()


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of symbolic links, which reading then reports
        return False


def _only_images(
    folder: str, entries: Iterable[tuple[str, FileState]], notes: list[str]
) -> Iterator[tuple[str, FileState]]:
    """Sort the entries of a folder or zip archive, and drop those that are not images by their names, with a note."""
    ignored = []
    for name, state in sorted(entries):
        hidden = any(part.startswith(".") or part == MAC_LEFTOVERS for part in name.split("/"))
        if name.lower().endswith(_EXTENSIONS) and not hidden:
            yield name, state
        else:
            ignored.append(name)
    if ignored:
        # The note is printed and stored as UTF-8, so a name that is not valid Unicode is escaped.
        notes.append(f"{folder}: {len(ignored)} files are no images by their extension, {_escaped(ignored[0])} for one")


def _is_folder(path: str) -> bool:
    if not files.is_remote(path):
        return os.path.isdir(path)
    return not glob.has_magic(path) and not path.lower().endswith(_EXTENSIONS) and bool(files.list_folder(path))


class _Folder(NamedTuple):
    """A folder, or the part of a zip archive's URI before an entry's name; both end with a slash, or are empty.

    Attributes:
        canonical: what all its spellings have in common.
        set_name: the image set of the files in it.
    """

    canonical: str
    set_name: str


def _describe_folder(folder: str, here: str) -> _Folder:
    is_there = not files.is_remote(folder) and os.path.lexists(folder)
    in_zip = None if is_there else files.split_zip(f"{folder}name")
    if in_zip:
        # An image at the top of an archive belongs to the set of the archive's name.
        set_name = os.path.basename(os.path.dirname(in_zip[1])) or _stem(in_zip[0])
    else:
        set_name = _set_of_folder(os.path.dirname(folder), here)
    if set_name.startswith(files.TEMP_PREFIX):
        raise ValueError(
            f"images in {folder}: expected another folder name, {files.TEMP_PREFIX} marks unfinished work; "
            "rename the folder"
        )
    if len(set_name.encode()) > _MAX_SET_BYTES:
        raise ValueError(
            f"images in {folder}: expected a folder name of at most {_MAX_SET_BYTES} bytes, which is part of its "
            f"shards' names, got {len(set_name.encode())}; rename the folder"
        )
    return _Folder(_canonical(folder, here), set_name)


def _canonical(folder: str, here: str) -> str:
    """Spell `a/`, `./a/` and the absolute path alike; `..` stays, since it may follow a link."""
    return folder if files.is_remote(folder) else os.path.join(Path(here, folder), "")


def _name_problem(uri: str) -> str | None:
    """Say why no record can have the name of an image; None if one can."""
    try:
        uri.encode()
        lmdb_key(_stem(uri))
    except UnicodeEncodeError:
        return f"image {uri!r}: expected a path that is valid Unicode, got a byte that is not; rename it"
    except ValueError as error:
        return str(error)
    return None


def _escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _stem(uri: str) -> str:
    return os.path.splitext(os.path.basename(uri))[0]
