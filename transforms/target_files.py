"""The files of an export's target where it is published: what is there, giving them their places, deleting them."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from typing import NamedTuple

from region_features.background import in_threads
from region_features.exports.base import OnProgress, Target
from region_features.formats.listing import decode_listing, encode_listing
from transforms import files

_THREADS = 16  # they wait for the disk or the network


class PublishedFiles(NamedTuple):
    """What a target consists of.

    Attributes:
        sizes: see `target_sizes`.
        sha256: file name -> hex SHA-256; the listing's stands for those of the files that it lists.
    """

    sizes: dict[str, int]
    sha256: dict[str, str]


def target_folder(output: str, target: Target) -> str:
    """The folder of a target's files."""
    return files.join(output, *target.folder.split("/")) if target.folder else output


def target_folders(output: str, target: Target) -> Iterator[str]:
    """Yield the folders in which a target's files get their names, but for that of its `contents`."""
    folder = target_folder(output, target)
    yield folder
    yield from (files.join(folder, below) for below in _folders_below(target))


def _folders_below(target: Target) -> set[str]:
    return {name.rpartition("/")[0] for name in target.files if "/" in name}


def target_sizes(folder: str, target: Target) -> dict[str, int]:
    """Return name -> bytes of the files in a target's folder.

    `CONTENTS/` is there too, with the bytes of all files that are listed, if each of them is there.
    """
    sizes = files.list_folder(folder)
    if target.contents:
        listed = _read_listing(folder, target, sizes)
        contents = files.list_folder(files.join(folder, target.contents))
        if listed.keys() <= contents.keys():
            sizes[f"{target.contents}/"] = sum(contents[name] for name in listed)
    for below in _folders_below(target):
        in_folder = files.list_folder(files.join(folder, below))
        sizes |= {f"{below}/{name}": size for name, size in in_folder.items()}
    return sizes


def _read_listing(folder: str, target: Target, names: Container[str]) -> dict[str, str]:
    """Read which files belong to a target's contents: name -> hex SHA-256; none where the list is torn or not there."""
    path = files.join(folder, target.listing)
    try:
        return decode_listing(files.read_bytes(path), target.contents, path) if target.listing in names else {}
    except ValueError:
        return {}


def target_paths(folder: str, target: Target) -> Iterator[str]:
    """Yield the path of everything that a target may consist of; to be deleted in this order."""
    yield files.join(folder, target.note)
    if target.contents:
        listed = _read_listing(folder, target, files.list_folder(folder))
        yield from (files.join(folder, target.contents, name) for name in listed)
        yield files.join(folder, target.listing)  # after the files: no one else knows which they are
    yield from (files.join(folder, name) for name in (*target.files, *target.optional))


def publish_target(scratch: str, folder: str, target: Target, on_progress: OnProgress) -> PublishedFiles:
    """Give the files of a target that were built in `scratch` their places; its old note goes first.

    Raises:
        OSError: one cannot be written.
    """
    left_out = {name for name in target.optional if not os.path.exists(f"{scratch}/{name}")}
    names = [name for name in (*target.files, *target.optional) if name not in left_out]
    sha256 = {name: files.sha256_of(f"{scratch}/{name}") for name in names}
    contents = _hash_files(scratch) if target.contents else {}
    files.delete_files([files.join(folder, target.note), *(files.join(folder, name) for name in sorted(left_out))])
    for name in (target.note, *target.files, *target.optional):  # what killed uploads left
        below, _, tail = name.rpartition("/")
        files.delete_temporaries(files.join(folder, below) if below else folder, suffix=f"-{tail}")
    sizes = {name: files.publish_file(f"{scratch}/{name}", files.join(folder, name)) for name in names}
    if target.contents:
        sizes[f"{target.contents}/"] = _publish_contents(scratch, folder, target, contents, on_progress)
        listing = files.digest_of_bytes(encode_listing(target.contents, contents))
        sizes[target.listing], sha256[target.listing] = listing["bytes"], listing["sha256"]
    return PublishedFiles(sizes, sha256)


def _hash_files(folder: str) -> dict[str, str]:
    names = sorted(os.listdir(folder))
    hashed = in_threads(lambda name: files.sha256_of(f"{folder}/{name}"), names, _THREADS)
    return dict(zip(names, hashed, strict=True))


def _publish_contents(
    scratch: str, folder: str, target: Target, sha256: dict[str, str], on_progress: OnProgress
) -> int:
    """Publish the files of a folder, and delete those that are no longer part of it; return their bytes."""
    contents, listing = files.join(folder, target.contents), files.join(folder, target.listing)
    earlier = _read_listing(folder, target, files.list_folder(folder))
    # Whatever stands in the folder is listed at any time: what a killed build left is deleted by the next one.
    files.delete_temporaries(folder, suffix=f"-{target.listing}")
    files.publish_bytes(listing, [encode_listing(target.contents, {**earlier, **sha256})])
    files.delete_temporaries(contents)

    def publish(name: str) -> int:
        return files.publish_file(f"{scratch}/{name}", files.join(contents, name))

    size = 0
    for number, num_bytes in enumerate(in_threads(publish, list(sha256), _THREADS), start=1):
        size += num_bytes
        on_progress("files_published", number)
    obsolete = [name for name in earlier if name not in sha256]
    if obsolete:
        files.delete_files(files.join(contents, name) for name in obsolete)
        files.publish_bytes(listing, [encode_listing(target.contents, sha256)])
    return size
