"""List the images that a user names by patterns, folders, list files, zip archives, or a COCO corpus."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipInfo

from apache_beam.io.filesystems import FileSystems

from region_features.images.zip_archive import MAC_LEFTOVERS
from region_features.records.coco import IMAGE_SETS, IMAGES_FOLDER
from region_features.records.failure import Failure
from region_features.records.plan import ImageRef
from transforms import files

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
_UNKNOWN_SIZE = -1


@dataclass(frozen=True)
class Listing:
    """The inputs of a run.

    Attributes:
        refs: the images.
        notes: what the user should know about the listing, a line each.
        failures: rows of imported files that cannot become images.
    """

    refs: tuple[ImageRef, ...]
    notes: tuple[str, ...]
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


def list_images(sources: Sequence[str]) -> Listing:
    """List every image that the sources name, each URI once.

    Args:
        sources: glob patterns, folders, .txt files of URIs (one a line), zip archives, single images, or single
            images in an archive, `ARCHIVE.zip!/ENTRY`.

    Raises:
        ValueError: a source names no image, an archive cannot be read, a file system is not installed, or a path
            cannot be stored in a record.
    """
    refs: dict[str, ImageRef] = {}
    notes: list[str] = []
    repeated: list[str] = []
    for source in sources:
        count = 0
        for uri, size in _expand_zips(_expand(source, notes), notes):
            count += 1
            path = _canonical(uri)
            if path in refs:
                repeated.append(uri)
            else:
                refs[path] = _image_ref(uri, size)
        if not count:
            raise ValueError(f"{source}: expected images, found none; check the path or the pattern")
    if repeated:
        notes.append(f"{len(repeated)} URIs are listed more than once and read once, {repeated[0]} for one")
    return Listing(tuple(refs.values()), tuple(notes))


def set_of_path(path: str) -> str:
    """Return the name of a file's folder, which is the image set of the files in it."""
    folder = os.path.dirname(path if files.is_remote(path) else os.path.abspath(path))
    return os.path.basename(folder) or IMAGES_FOLDER


def expand_pattern(pattern: str) -> Iterator[tuple[str, int]]:
    """Yield (URI, size) of every file that a glob pattern or a single URI names."""
    if not glob.has_magic(pattern) or files.split_zip(pattern) or os.path.lexists(pattern):
        yield from _with_sizes([pattern])
    elif files.is_remote(pattern):
        yield from ((entry.path, entry.size_in_bytes) for entry in files.match(pattern))
    else:
        yield from _with_sizes(sorted(glob.glob(pattern, recursive=True)))


def _expand(source: str, notes: list[str]) -> Iterator[tuple[str, int]]:
    """Yield (URI, size) of every file that a source names; zip archives are not opened."""
    if source.lower().endswith(".txt"):
        yield from _with_sizes(_read_list_file(source))
    elif _is_folder(source):
        images = _only_images(source, _folder_entries(source), notes)
        yield from ((files.join(source, name), size) for name, size in images)
    else:
        yield from expand_pattern(source)


def _expand_zips(uris: Iterable[tuple[str, int]], notes: list[str]) -> Iterator[tuple[str, int]]:
    """Replace each zip archive by the images in it, and give images in archives their sizes."""
    directories: dict[str, Mapping[str, ZipInfo]] = {}
    for uri, size in uris:
        in_zip = files.split_zip(uri)
        if in_zip:
            archive, name = in_zip
            if archive not in directories:
                directories[archive] = _zip_entries(archive)
            entry = directories[archive].get(name)
            yield uri, entry.file_size if entry else _UNKNOWN_SIZE
        elif uri.lower().endswith(".zip") and not os.path.isdir(uri):
            sizes = ((name, entry.file_size) for name, entry in _zip_entries(uri).items())
            # Not files.join: an entry's name may begin with a slash.
            yield from ((f"{uri}!/{name}", size) for name, size in _only_images(uri, sizes, notes))
        else:
            yield uri, size


def _zip_entries(archive: str) -> Mapping[str, ZipInfo]:
    try:
        return files.zip_entries(archive)
    except Exception as error:  # remote file systems raise their own classes
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{archive}: expected a zip archive, got: {reason}; fetch it again") from error


def _read_list_file(source: str) -> list[str]:
    try:
        lines = files.read_bytes(source).decode("utf-8-sig").split("\n")  # splitlines() would split at U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--images {source}: expected a UTF-8 text file of URIs, got: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def _with_sizes(uris: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Add the sizes; a missing file stays in the list, and fails when it is read."""
    remote = [uri for uri in uris if files.is_remote(uri) and not files.split_zip(uri)]
    # One listing per folder instead of one request per image.
    folders = {FileSystems.split(uri)[0] for uri in remote}
    sizes = {files.join(folder, name): size for folder in folders for name, size in files.list_folder(folder).items()}
    for uri in uris:
        if files.is_remote(uri):
            yield uri, sizes.get(uri, _UNKNOWN_SIZE)
        else:
            yield uri, os.path.getsize(uri) if os.path.isfile(uri) else _UNKNOWN_SIZE


def _folder_entries(folder: str) -> Iterator[tuple[str, int]]:
    if files.is_remote(folder):
        yield from files.list_folder(folder).items()
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file():
                yield entry.name, entry.stat().st_size
            # A folder named like an image stays in the list: the failure to read it tells the user.
            elif not entry.is_dir() or entry.name.lower().endswith(_EXTENSIONS):
                yield entry.name, _UNKNOWN_SIZE


def _only_images(folder: str, entries: Iterable[tuple[str, int]], notes: list[str]) -> Iterator[tuple[str, int]]:
    """Sort the entries of a folder or zip archive, and drop those that are not images by their names, with a note."""
    ignored = []
    for name, size in sorted(entries):
        hidden = any(part.startswith(".") or part == MAC_LEFTOVERS for part in name.split("/"))
        if name.lower().endswith(_EXTENSIONS) and not hidden:
            yield name, size
        else:
            ignored.append(name)
    if ignored:
        # The note is printed and stored as UTF-8, so a name that is not valid Unicode is escaped.
        example = ignored[0].encode("utf-8", "backslashreplace").decode()
        notes.append(f"{folder}: {len(ignored)} files are no images by their extension, {example} for one")


def _is_folder(path: str) -> bool:
    if not files.is_remote(path):
        return os.path.isdir(path)
    return not glob.has_magic(path) and not path.lower().endswith(_EXTENSIONS) and bool(files.list_folder(path))


def _canonical(uri: str) -> str:
    """Spell `a.jpg`, `./a.jpg` and the absolute path alike; `..` stays, since it may follow a link."""
    return uri if files.is_remote(uri) else str(Path(uri).absolute())


def _image_ref(uri: str, size: int) -> ImageRef:
    try:
        uri.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"image {uri!r}: expected a path that is valid Unicode, got a byte that is not; rename it"
        ) from error
    in_zip = files.split_zip(uri)
    # An image at the top of an archive belongs to the set of the archive's name.
    set_name = os.path.basename(os.path.dirname(in_zip[1])) or _stem(in_zip[0]) if in_zip else set_of_path(uri)
    if set_name.startswith(files.TEMP_PREFIX):
        raise ValueError(
            f"image {uri}: expected another folder name, {files.TEMP_PREFIX} marks unfinished work; rename the folder"
        )
    return ImageRef(set_name, _stem(uri), uri, size)


def _stem(uri: str) -> str:
    return os.path.splitext(os.path.basename(uri))[0]
