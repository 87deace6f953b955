"""Every byte of an output against the digests of its manifest."""

from __future__ import annotations

from collections.abc import Iterator

from beam_pipeline.preflight.output_folder import OutputFolder
from region_features.background import in_threads
from region_features.records.plan import SHARDS_FOLDER
from region_features.validation.record import Problem
from transforms import files
from transforms.manifest import MANIFEST, MANIFEST_DIGEST

# Remote files up to this size are read too; of larger ones the size alone is compared.
_SMALL_BYTES = 64 << 20


def check_manifest_digest(output: OutputFolder) -> Iterator[Problem]:
    """Check that manifest.json is as it was written."""
    if output.manifest is None:
        return
    layout = output.layout
    try:
        expected = files.read_bytes(layout.manifest_digest).decode()
    except (OSError, ValueError) as error:
        yield Problem("manifest", f"{layout.manifest_digest}: cannot be read: {error}")
        return
    if expected != f"{files.sha256_of(layout.manifest)}  {MANIFEST}\n":
        message = f"expected the SHA-256 that {MANIFEST_DIGEST} says, got another; one of the two was changed"
        yield Problem("manifest", f"{layout.manifest}: {message}")


def check_digests(output: OutputFolder, threads: int) -> Iterator[Problem]:
    """Check size and SHA-256 of every file that the manifest lists; shards are hashed where their records are read."""
    listed = output.manifest["digests"] if output.manifest else {}

    def check(path: str) -> str | None:
        expected, place = listed[path], files.join(output.layout.output, *path.split("/"))
        try:
            size = files.size_of(place)
            if size != expected["bytes"]:
                return f"{place}: expected {expected['bytes']} bytes (manifest.json), got {size}"
            hashed_elsewhere = path.removeprefix(f"{SHARDS_FOLDER}/") in output.shards
            if hashed_elsewhere or (files.is_remote(place) and size > _SMALL_BYTES):
                return None
            if files.sha256_of(place) != expected["sha256"]:
                return f"{place}: expected the SHA-256 that manifest.json lists, got another: a byte of it was changed"
        except FileNotFoundError:
            return f"{place}: listed in manifest.json, and not there"
        except (OSError, KeyError, TypeError) as error:
            return f"{place}: cannot be checked: {error!r}"
        return None

    for message in in_threads(check, list(listed), threads):
        if message:
            yield Problem("manifest", message)
