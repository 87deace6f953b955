"""Folders that have a list of their files beside them: every byte against its digest, and files that are not listed."""

from __future__ import annotations

from collections.abc import Iterator

from beam_pipeline.preflight.output_folder import OutputFolder
from region_features.background import in_threads
from region_features.formats.listing import LISTING_SUFFIX, decode_listing
from region_features.validation.record import Problem
from transforms import files


def check_listings(output: OutputFolder, threads: int) -> Iterator[Problem]:
    """Check the folders whose lists the manifest has; of remote ones only that every file is there."""
    for path in output.manifest["digests"] if output.manifest else ():
        if path.endswith(LISTING_SUFFIX):
            yield from _check_listing(files.join(output.layout.output, *path.split("/")), threads)


def _check_listing(path: str, threads: int) -> Iterator[Problem]:
    folder = path.removesuffix(LISTING_SUFFIX)
    try:
        listed = decode_listing(files.read_bytes(path), folder.rpartition("/")[2], path)
        there = files.list_folder(folder)
    except FileNotFoundError:
        return  # the manifest lists it, and so its absence is reported
    except (ValueError, OSError) as error:
        yield Problem("listing", str(error))
        return
    for name in sorted(listed.keys() - there.keys()):
        yield Problem("listing", f"{files.join(folder, name)}: listed in {path}, and not there")
    for name in sorted(there.keys() - listed.keys()):
        if not name.startswith(files.TEMP_PREFIX):
            yield Problem("stray", f"{files.join(folder, name)}: {path} does not list it; delete it")

    def check(name: str) -> str | None:
        place = files.join(folder, name)
        try:
            if files.sha256_of(place) != listed[name]:
                return f"{place}: expected the SHA-256 that {path} lists, got another: a byte of it was changed"
        except OSError as error:
            return f"{place}: cannot be checked: {error!r}"
        return None

    names = [] if files.is_remote(folder) else sorted(listed.keys() & there.keys())
    for message in in_threads(check, names, threads):
        if message:
            yield Problem("listing", message)
