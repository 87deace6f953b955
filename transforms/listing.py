"""List the images that a user names by patterns, folders, list files, zip archives, or a COCO corpus."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from region_features.records.coco import IMAGE_SETS, IMAGES_FOLDER
from region_features.records.failure import NAME_STAGE, Failure
from region_features.records.key import lmdb_key
from region_features.records.plan import ImageRef
from transforms import files
from transforms.image_sources import Source, escaped, is_folder

# A file name has at most 255 bytes; a shard's temporary name adds 90 to that of its set.
_MAX_SET_BYTES = 160

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
    present = [folder for folder in folders if is_folder(folder)]
    if not present:
        raise ValueError(
            f"--corpus {corpus}: expected at least one of the folders {', '.join(folders)}, found none; "
            f"name the folder that holds {IMAGES_FOLDER}/, or use --images"
        )
    return present


def list_images(sources: Sequence[str], add: AddImage, recursive: bool = False, output: str = "") -> Listing:
    """List every image that the sources name, each URI once.

    Args:
        sources: see `Source`.
        add: takes the images.
        recursive: whether the folders in folders are read, too.
        output: where the run writes; nothing in it is an input.

    Raises:
        ValueError: a source is refused (see `Source.files`), a file system is not installed, or a folder's name cannot
            be part of a shard's.
    """
    failures: list[Failure] = []
    notes: list[str] = []
    listed = repeated = 0
    first_repeated = ""
    here = os.getcwd()
    folder_of = lru_cache(1024)(partial(_describe_folder, here=here))  # most images have that of the image before
    for name in sources:
        source = Source(name, recursive, output, notes)
        for uri, state in source.files():
            name_at = uri.rfind("/") + 1
            name = uri[name_at:]
            img_id = os.path.splitext(name)[0]
            problem = _name_problem(uri, img_id)
            if problem:
                failures.append(Failure(*map(escaped, (uri, img_id, NAME_STAGE, problem))))
                continue
            folder = folder_of(uri[:name_at])
            if add(folder.canonical + name, ImageRef(folder.set_name, img_id, uri, *state)):
                listed += 1
            else:
                repeated, first_repeated = repeated + 1, first_repeated or uri
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
        archive = os.path.splitext(os.path.basename(in_zip[0]))[0]
        set_name = os.path.basename(os.path.dirname(in_zip[1])) or archive
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


def _name_problem(uri: str, img_id: str) -> str | None:
    """Say why no record can have the name of an image; None if one can."""
    try:
        uri.encode()
        lmdb_key(img_id)
    except UnicodeEncodeError:
        return f"image {uri!r}: expected a path that is valid Unicode, got a byte that is not; rename it"
    except ValueError as error:
        return str(error)
    return None
