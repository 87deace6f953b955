"""The readers of the small files by which runs, rebuilds and fetches know each other, for `benchmarks.fuzz`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from filelock import FileLock

from beam_pipeline.fetch.command import read_fetched
from beam_pipeline.output_lock import LOCK, Lease, lock_output
from beam_pipeline.rebuild.leases import LEASES_FOLDER, leased_versions
from beam_pipeline.rebuild.versions import LATEST, Versions
from beam_pipeline.usage import UsageError
from benchmarks.support.fuzz_target import SOURCE, Target, write_file
from region_features.formats.listing import decode_listing, encode_listing

_VERSION, _SHA256 = "20260102T030405Z", "ab" * 32
_OWNER = {"pid": 1, "host": "a", "since": time.time(), "run": "b", "expires": time.time() + 1e6}


def _read_latest(data: bytes) -> None:
    Versions(str(Path(write_file(data, f"{SOURCE} root/{LATEST}")).parent)).read_latest()


def _read_version_lease(data: bytes) -> None:
    path = Path(write_file(data, f"root/{LEASES_FOLDER}/{_VERSION}.1.json"))
    leased_versions(str(path.parent.parent))


class _Bucket:
    """A bucket of one object, which cannot be written."""

    name = SOURCE

    def __init__(self, data: bytes) -> None:
        self._data = data

    def get_blob(self, name: str) -> Any:
        return SimpleNamespace(download_as_bytes=lambda: self._data, generation=1)

    def blob(self, name: str) -> Any:
        def upload_from_string(*_: object, **__: object) -> None:
            raise OSError("cannot be written")

        return SimpleNamespace(upload_from_string=upload_from_string)


def _read_output_lease(data: bytes) -> None:
    Lease(_Bucket(data), f"out/{LOCK}").__enter__()


def _read_owner(data: bytes) -> None:
    path = Path(write_file(data, f"{SOURCE} out/{LOCK}.owner"))
    with FileLock(path.parent / LOCK), lock_output(str(path.parent)):
        raise AssertionError("expected the output to be locked")


def _feed_fetched(data: bytes) -> None:
    path = Path(write_file(data, f"{SOURCE} folder/fetched.json"))
    read_fetched(str(path.parent))


OWN_FILE_TARGETS = {
    "latest.json": Target(
        _read_latest,
        lambda: [json.dumps({"version": _VERSION, "manifest_sha256": _SHA256}).encode()],
        (ValueError,),
        True,
    ),
    "lease of a version": Target(_read_version_lease, lambda: [json.dumps(_OWNER).encode()], ()),
    "lease of an output": Target(_read_output_lease, lambda: [json.dumps(_OWNER).encode()], (UsageError,), True),
    "owner of a lock": Target(_read_owner, lambda: [json.dumps(_OWNER).encode()], (UsageError,), True),
    "list of fetched files": Target(
        _feed_fetched, lambda: [b'{"from": "a", "paths": ["tfrecord/a"]}'], (UsageError,), True
    ),
    "list of a folder": Target(
        lambda data: decode_listing(data, "photos", SOURCE),
        lambda: [encode_listing("photos", {"a.jpg": _SHA256, "b\nc": _SHA256})],
        (ValueError,),
        True,
    ),
}
