"""The files of folders that have a list of their own, of which a manifest holds the list alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from beam_pipeline.fetch.selection import ListedFile, is_inside
from region_features.formats.listing import LISTING_SUFFIX, decode_listing
from transforms import files


def with_contents(source: str, listed: Iterable[ListedFile]) -> Iterator[ListedFile]:
    """Yield the files that a manifest lists, and after each list of a folder the files that it lists.

    Args:
        source: the output folder that they are fetched from.
        listed: see `select_files`.

    Raises:
        ValueError: a list is not the one that the manifest means, or a file that it lists is not there.
        OSError: a list cannot be read.
    """
    for file in listed:
        yield file
        if file.path.endswith(LISTING_SUFFIX):
            yield from _contents(source, file)


def _contents(source: str, listing: ListedFile) -> Iterator[ListedFile]:
    place = files.join(source, *listing.path.split("/"))
    data = files.read_bytes(place)
    if files.digest_of_bytes(data)["sha256"] != listing.sha256:
        raise ValueError(f"{place}: expected the SHA-256 that manifest.json lists, got another; build it again")
    folder = listing.path.removesuffix(LISTING_SUFFIX)
    sizes = files.list_folder(files.join(source, *folder.split("/")))
    for name, sha256 in decode_listing(data, folder.rpartition("/")[2], place).items():
        if name not in sizes or not is_inside(name):
            raise ValueError(f"{place}: lists {name!r}, which is not there or no file's name; build it again")
        yield ListedFile(f"{folder}/{name}", sizes[name], sha256)
