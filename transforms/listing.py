"""From what a user names (patterns, folders, list files, a COCO corpus) to image references."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from apache_beam.io.filesystems import FileSystems

from region_features.images.zip_archive import ZipEntry
from region_features.records.plan import ImageRef
from transforms import files

COCO_SETS = ("train2014", "val2014", "test2015")
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
# What macOS puts into a zip beside each image: `__MACOSX/._a.jpg`.
_MAC_LEFTOVERS = "__MACOSX"
_UNSEEN = -1


@dataclass(frozen=True)
class Listing:
    """The images found, and what a user should hear about how they were found."""

    refs: tuple[ImageRef, ...]
    notes: tuple[str, ...]


def corpus_folders(corpus: str) -> list[str]:
    """The image folders that a COCO corpus has.

    Raises:
        ValueError: it has none.
    """
    folders = [files.join(corpus, "images", name) for name in COCO_SETS]
    present = [folder for folder in folders if _is_folder(folder)]
    if not present:
        raise ValueError(
            f"--corpus {corpus}: expected at least one of the folders {', '.join(folders)}, found none; "
            "name the folder that holds images/, or use --images"
        )
    return present


def list_images(sources: Sequence[str]) -> Listing:
    """List every image that the sources name, each URI once.

    Args:
        sources: glob patterns, folders, .txt files of URIs (one a line), zip archives, single images, or single
            images in an archive, `ARCHIVE.zip!/ENTRY`.

    Raises:
        ValueError: a source names nothing, an archive that cannot be read, a file system that is not installed, or
            a path that no record can hold.
    """
    seen: dict[str, ImageRef] = {}
    notes: list[str] = []
    repeated: list[str] = []
    for source in sources:
        found = 0
        for uri, size in _look_into_zips(_expand(source, notes), notes):
            found += 1
            place = _place(uri)
            if place in seen:
                repeated.append(uri)
            else:
                seen[place] = _image_ref(uri, size)
        if not found:
            raise ValueError(f"{source}: expected images, found none; check the path or the pattern")
    if repeated:
        notes.append(f"{len(repeated)} URIs are listed more than once and read once, {repeated[0]} for one")
    return Listing(tuple(seen.values()), tuple(notes))


def _expand(source: str, notes: list[str]) -> Iterator[tuple[str, int]]:
    """(URI, size) of what one source names."""
    if source.lower().endswith(".txt"):
        yield from _from_list_file(source)
    elif _is_folder(source):
        yield from _keep_images(source, _folder_entries(source), notes)
    elif not glob.has_magic(source) or files.split_zip(source) or _is_local(source):
        yield from _sizes([source])
    elif files.is_remote(source):
        yield from ((entry.path, entry.size_in_bytes) for entry in files.match(source))
    else:
        yield from _sizes(sorted(glob.glob(source, recursive=True)))


def _look_into_zips(found: Iterable[tuple[str, int]], notes: list[str]) -> Iterator[tuple[str, int]]:
    """What was found, with each zip archive replaced by the images in it."""
    known: dict[str, Mapping[str, ZipEntry]] = {}
    for uri, size in found:
        in_zip = files.split_zip(uri)
        if in_zip:
            archive, name = in_zip
            if archive not in known:
                known[archive] = _zip_entries(archive)
            entry = known[archive].get(name)
            yield uri, entry.size if entry else _UNSEEN
        elif uri.lower().endswith(".zip") and not os.path.isdir(uri):
            sizes = {name: entry.size for name, entry in _zip_entries(uri).items()}
            # Not files.join: an entry's name may begin with a slash.
            yield from ((f"{uri}!/{name}", size) for name, size in _only_images(uri, sizes.items(), notes))
        else:
            yield uri, size


def _zip_entries(archive: str) -> Mapping[str, ZipEntry]:
    try:
        return files.zip_entries(archive)
    except Exception as error:  # remote file systems raise classes of their own
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{archive}: expected a zip archive, got: {reason}; fetch it again") from error


def _from_list_file(source: str) -> Iterator[tuple[str, int]]:
    try:
        lines = files.read_bytes(source).decode("utf-8-sig").split("\n")  # splitlines() would cut at U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--images {source}: expected a UTF-8 text file of URIs, got: {error}") from error
    yield from _sizes([line.strip() for line in lines if line.strip()])


def _sizes(uris: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Each URI with its size; one that is missing is kept, to become a failure when it is read."""
    remote = [uri for uri in uris if files.is_remote(uri) and not files.split_zip(uri)]
    # One listing a folder instead of one request an image.
    folders = {FileSystems.split(uri)[0] for uri in remote}
    sizes = {files.join(folder, name): size for folder in folders for name, size in files.list_folder(folder).items()}
    for uri in uris:
        if files.is_remote(uri):
            yield uri, sizes.get(uri, _UNSEEN)
        else:
            yield uri, os.path.getsize(uri) if os.path.isfile(uri) else _UNSEEN


def _folder_entries(folder: str) -> Iterator[tuple[str, int]]:
    if files.is_remote(folder):
        yield from files.list_folder(folder).items()
        return
    # Folders named like images stay in: reading one fails and says so, instead of losing it in silence.
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file():
                yield entry.name, entry.stat().st_size
            elif not entry.is_dir() or entry.name.lower().endswith(_EXTENSIONS):
                yield entry.name, _UNSEEN


def _keep_images(folder: str, entries: Iterable[tuple[str, int]], notes: list[str]) -> Iterator[tuple[str, int]]:
    for name, size in _only_images(folder, entries, notes):
        yield files.join(folder, name), size


def _only_images(where: str, entries: Iterable[tuple[str, int]], notes: list[str]) -> Iterator[tuple[str, int]]:
    """The entries of a folder or zip that are images by their name, sorted; the rest is noted."""
    ignored = []
    for name, size in sorted(entries):
        hidden = any(part.startswith(".") or part == _MAC_LEFTOVERS for part in name.split("/"))
        if name.lower().endswith(_EXTENSIONS) and not hidden:
            yield name, size
        else:
            ignored.append(name)
    if ignored:
        # A name that is no valid Unicode can be shown, and written to the manifest, only escaped.
        shown = ignored[0].encode("utf-8", "backslashreplace").decode()
        notes.append(f"{where}: {len(ignored)} files are no images by their extension, {shown} for one")


def _is_local(path: str) -> bool:
    return not files.is_remote(path) and os.path.lexists(path)


def _is_folder(path: str) -> bool:
    if not files.is_remote(path):
        return os.path.isdir(path)
    return not glob.has_magic(path) and not path.lower().endswith(_EXTENSIONS) and bool(files.list_folder(path))


def _place(uri: str) -> str:
    """One text for the spellings `a.jpg`, `./a.jpg` and the absolute path; `..` stays, a link may lie before it."""
    return uri if files.is_remote(uri) else str(Path(uri).absolute())


def _image_ref(uri: str, size: int) -> ImageRef:
    try:
        uri.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"image {uri!r}: expected a path that is valid Unicode, got a byte that is not; rename it"
        ) from error
    set_name = _set_name(uri)
    if set_name.startswith(files.TEMP_PREFIX):
        raise ValueError(
            f"image {uri}: expected another folder name, {files.TEMP_PREFIX} marks unfinished work; rename the folder"
        )
    return ImageRef(set_name, _stem(uri), uri, size)


def _stem(uri: str) -> str:
    return os.path.splitext(os.path.basename(uri))[0]


def _set_name(uri: str) -> str:
    in_zip = files.split_zip(uri)
    if in_zip:
        archive, name = in_zip
        return os.path.basename(os.path.dirname(name)) or _stem(archive)
    folder = os.path.dirname(uri if files.is_remote(uri) else os.path.abspath(uri))
    return os.path.basename(folder) or "images"
