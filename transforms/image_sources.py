"""What a user names as images: patterns, folders, list files, zip archives; each expanded to files with their state."""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from region_features.download.http import shown
from region_features.images.zip_archive import MAC_LEFTOVERS
from region_features.records.plan import SHARDS_FOLDER
from transforms import files
from transforms.input_files import (
    UNKNOWN_SIZE,
    FileState,
    folder_states,
    state_of_entry,
    state_of_object,
    state_of_status,
)
from transforms.manifest import PLAN
from transforms.named_images import find_named, listed_files, refuse_address, zip_entries
from transforms.remote_listing import match_files

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
_MAGIC = re.compile(r"[*?[]")
_MOST_NAMES = 10_000  # among which one like a mistyped one is looked for
Files = Iterator[tuple[str, FileState]]


def is_folder(path: str) -> bool:
    """Return whether a path is a local folder, or a remote one with files in it."""
    if not files.is_remote(path):
        return os.path.isdir(path)
    return not glob.has_magic(path) and not path.lower().endswith(_EXTENSIONS) and bool(files.list_folder(path))


def expand_pattern(pattern: str) -> Files:
    """Yield every file that a glob pattern or a single URI names, with its state."""
    if not _is_pattern(pattern):
        yield from find_named([pattern])
    elif files.is_remote(pattern):
        yield from ((entry.path, state_of_object(entry)) for entry in match_files(pattern))
    else:
        yield from find_named(sorted(glob.glob(pattern, recursive=True)))


def _is_pattern(source: str) -> bool:
    return glob.has_magic(source) and not files.split_zip(source) and not os.path.lexists(source)


@dataclass
class _Ignored:
    """Files and folders of a source that are not read: how many, and the first."""

    count: int = 0
    first: str = ""

    def add(self, name: str) -> None:
        self.count, self.first = self.count + 1, self.first or name


@dataclass
class Source:
    """One of the sources of `--images`.

    Attributes:
        name: glob pattern, folder, .txt file of URIs (one a line), zip archive, single image, or single image in an
            archive, `ARCHIVE.zip!/ENTRY`.
        recursive: whether the folders in a folder are read, too.
        output: where the run writes, empty if that is not known.
        notes: what the user should know, a line each; complete once all files were taken.
    """

    name: str
    recursive: bool = False
    output: str = ""
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._others, self._subfolders, self._written = _Ignored(), _Ignored(), _Ignored()

    def files(self) -> Files:
        """Yield every image with its state.

        Raises:
            ValueError: the source is not there, names no image, or is an address; a list or an archive cannot be read;
                or the run would write into the folder of its images.
        """
        found = False
        for uri_and_state in self._expand_zips(self._expand()):
            found = True
            yield uri_and_state
        if not found:
            raise ValueError(f"--images {self.name}: expected images, found none{self._why_none()}")
        if self._others.count:
            # The note is printed and stored as UTF-8, so a name that is not valid Unicode is escaped.
            self.notes.append(
                f"{self.name}: {self._others.count} files are no images by their extension, "
                f"{escaped(self._others.first)} for one"
            )
        if self._subfolders.count:
            self.notes.append(
                f"{self.name}: folders in it that are not read: {self._subfolders.count}, "
                f"{escaped(self._subfolders.first)} for one; --recursive reads them"
            )
        if self._written.count:
            self.notes.append(
                f"{self.name}: {self._written.count} images that a run wrote are left out, "
                f"{escaped(self._written.first)} for one"
            )

    def _why_none(self) -> str:
        if self._subfolders.count:
            return (
                f" but in folders, {escaped(self._subfolders.first)} for one: folders are not searched recursively: "
                f"give '{files.join(self.name, '**', '*.jpg')}' in quotes, or --recursive"
            )
        if self._written.count:
            return " but what a run wrote; name the folder of the images"
        if self._others.count:
            return (
                f": its {self._others.count} files have no image's extension ({' '.join(_EXTENSIONS)}), "
                f"{escaped(self._others.first)} for one; name images without one in a .txt list"
            )
        return "; check the path or the pattern"

    def _expand(self) -> Files:
        """Yield every file that the source names, with its state; zip archives stay whole."""
        refuse_address(self.name, f"--images {shown(self.name)}")
        if self.name.lower().endswith(".txt"):
            yield from listed_files(self.name)
        elif is_folder(self.name):
            self._refuse_as_output(self.name)
            yield from self._walk(self.name) if self.recursive else self._images_in(self.name)
        elif _is_pattern(self.name):
            yield from self._matching()
        else:
            for uri, state in expand_pattern(self.name):
                is_missing = state.size == UNKNOWN_SIZE and not os.path.lexists(uri)
                # Opening a remote archive says more: that it is not there, or that it may not be read.
                if is_missing and not (files.is_remote(uri) and _is_archive(uri)):
                    raise ValueError(_nothing_there(uri))
                yield uri, state

    def _matching(self) -> Files:
        """Yield the files that a pattern names, without those that a run wrote below the pattern's fixed part."""
        base = _MAGIC.split(self.name, 1)[0].rpartition("/")[0]
        self._refuse_as_output(base or ".")
        is_written = lru_cache(1024)(lambda folder: self._is_written(folder, base or "."))
        for uri, state in expand_pattern(self.name):
            if self._is_in_output(uri) if files.is_remote(uri) else is_written(os.path.dirname(uri)):
                self._written.add(uri)
            else:
                yield uri, state

    def _walk(self, folder: str) -> Files:
        """Yield the images of a folder, then those of the folders in it; links to folders are not followed."""
        if files.is_remote(folder):
            prefix = _as_prefix(folder)
            found = (entry for entry in match_files(f"{prefix}**") if not self._is_in_output(entry.path))
            named = ((entry.path.removeprefix(prefix), state_of_object(entry)) for entry in found)
            yield from self._only_images(named, prefix)
            return
        pending = [folder]
        while pending:
            current = pending.pop()
            inner = []
            with os.scandir(current) as entries:
                for entry in entries:
                    is_inner = entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
                    if is_inner and not self._is_output(entry.path):
                        inner.append(entry.path)
            pending.extend(sorted(inner, reverse=True))
            yield from self._images_in(current)

    def _images_in(self, folder: str) -> Files:
        return self._only_images(self._folder_entries(folder), _as_prefix(folder))

    def _folder_entries(self, folder: str) -> Files:
        if files.is_remote(folder):
            yield from folder_states(folder).items()
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_file(entry):
                    yield entry.name, state_of_status(entry.stat())
                # A folder named like an image stays in the list: the failure to read it tells the user.
                elif entry.name.lower().endswith(_EXTENSIONS) or not is_folder(entry.path):
                    yield entry.name, FileState()
                elif not self.recursive and not entry.name.startswith(".") and not self._is_output(entry.path):
                    self._subfolders.add(entry.path)

    def _only_images(self, entries: Iterable[tuple[str, FileState]], prefix: str) -> Files:
        """Sort the entries of a folder or archive, drop those that are not images by their names; yield whole URIs."""
        for name, state in sorted(entries):
            hidden = any(part.startswith(".") or part == MAC_LEFTOVERS for part in name.split("/"))
            if name.lower().endswith(_EXTENSIONS) and not hidden:
                yield prefix + name, state
            else:
                self._others.add(name)

    def _expand_zips(self, uris: Files) -> Files:
        """Replace each zip archive by the images in it."""
        for uri, state in uris:
            if _is_archive(uri):
                entries = ((name, state_of_entry(entry)) for name, entry in zip_entries(uri).items())
                yield from self._only_images(entries, f"{uri}!/")
            else:
                yield uri, state

    def _refuse_as_output(self, folder: str) -> None:
        if self.output and _same(folder, self.output):
            raise ValueError(
                f"--output {self.output}: expected another folder than that of the images, {self.name}; "
                f"write to a folder of its own, {files.join(self.output, 'features')} for one"
            )

    def _is_written(self, folder: str, base: str) -> bool:
        """Return whether a folder below `base` lies in an output."""
        while len(folder) > len(base) and folder != base:
            if self._is_output(folder):
                return True
            folder = os.path.dirname(folder)
        return False

    def _is_output(self, folder: str) -> bool:
        if self.output and _same(folder, self.output):
            return True
        return not files.is_remote(folder) and (
            os.path.isfile(os.path.join(folder, PLAN)) and os.path.isdir(os.path.join(folder, SHARDS_FOLDER))
        )

    def _is_in_output(self, uri: str) -> bool:
        return bool(self.output) and uri.startswith(_as_prefix(self.output))


def _nothing_there(path: str) -> str:
    """Say that nothing stands at a path, and what has the nearest name."""
    in_zip = files.split_zip(path)
    if in_zip:
        return f"--images {path}: expected an image in the archive, found no {in_zip[1]} in {in_zip[0]}; check the name"
    parent, name = path.rstrip("/"), ""
    while parent and not os.path.isdir(parent):
        parent, name = os.path.split(parent.rstrip("/"))
    there = sorted(os.listdir(parent or ".")) if os.access(parent or ".", os.R_OK) else []
    nearest = difflib.get_close_matches(name, there[:_MOST_NAMES], n=1)
    hint = f"; did you mean {os.path.join(parent, nearest[0])}?" if nearest else "; check the path"
    return f"--images {path}: expected an image, a folder, a zip archive, a .txt list or a pattern, found nothing{hint}"


def _is_archive(uri: str) -> bool:
    return uri.lower().endswith(".zip") and not files.split_zip(uri) and not os.path.isdir(uri)


def _same(folder: str, other: str) -> bool:
    if files.is_remote(folder) or files.is_remote(other):
        return folder.rstrip("/") == other.rstrip("/")
    return os.path.realpath(folder) == os.path.realpath(other)


def _as_prefix(folder: str) -> str:
    return folder if folder.endswith("/") else f"{folder}/"


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of symbolic links, which reading then reports
        return False


def escaped(text: str) -> str:
    """Return a text that can be stored as UTF-8, the bytes of a name that is not valid Unicode as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
