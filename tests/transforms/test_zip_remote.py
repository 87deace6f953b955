"""Zip archives behind gs://, read by Google's own reader class in small ranges."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from apache_beam.io.filesystems import FileSystems
from google.cloud.storage.fileio import BlobReader

from tests.samples.listing import listed
from tests.samples.zips import zip_bytes
from transforms import files


class Blob:
    """Stand-in for Google's Blob that records the fetched lengths."""

    content_encoding = None

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.fetched: list[int] = []

    def download_as_bytes(self, start: int, end: int | None, **_: object) -> bytes:
        """Return a range with its end included, as Google does."""
        part = self.data[start : None if end is None else end + 1]
        self.fetched.append(len(part))
        return part


class Listed(list[Any]):
    """What Google's client lists; folders have no objects of their own here."""

    prefixes = ()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Blob]]:
    """Serve blobs at gs:// by the reader class that Beam uses."""
    blobs: dict[str, Blob] = {}
    real_open = FileSystems.open

    def open_blob(path: str, **kwargs: Any) -> Any:
        if not path.startswith("gs://"):
            return real_open(path, **kwargs)
        if path not in blobs:
            raise RuntimeError(f"404 {path}")
        return BlobReader(blobs[path], chunk_size=16 << 20)

    def list_blobs(bucket: str, prefix: str, delimiter: str = "") -> Any:
        names = {path.removeprefix(f"gs://{bucket}/"): blob.size for path, blob in blobs.items()}
        inside = [name for name in names if name.startswith(prefix) and not (delimiter and "/" in name[len(prefix) :])]
        return Listed(SimpleNamespace(name=name, size=names[name], updated=None, crc32c=None) for name in inside)

    client = SimpleNamespace(list_blobs=list_blobs)
    monkeypatch.setattr("transforms.remote_listing.gcs_client", lambda: client)
    monkeypatch.setattr(FileSystems, "open", open_blob)
    yield blobs


def test_a_remote_zip_is_read_in_small_ranges(bucket: dict[str, Blob]) -> None:
    photos = {f"set/{number}.png": np.random.default_rng(number).bytes(100_000) for number in range(300)}
    bucket["gs://b/p.zip"] = blob = Blob(zip_bytes(photos.items()))
    listing = listed(["gs://b/p.zip"])
    assert [ref.set_name for ref in listing.refs] == ["set"] * 300
    assert [ref.uri for ref in listed(["gs://b/p*"]).refs] == [ref.uri for ref in listing.refs]
    assert listed(["gs://b/p.zip!/set/7.png"]).refs[0].size == 100_000
    for number in (250, 3, 299, 120):
        blob.fetched.clear()
        assert files.read_bytes(f"gs://b/p.zip!/set/{number}.png") == photos[f"set/{number}.png"]
        assert len(blob.fetched) <= 2 and sum(blob.fetched) < 200_000


def test_a_replaced_remote_zip_is_read_again_after_the_next_listing(bucket: dict[str, Blob]) -> None:
    for content in (b"one", b"other"):
        bucket["gs://b/p.zip"] = Blob(zip_bytes([("s/1.png", content)]))
        (ref,) = listed(["gs://b/p.zip"]).refs
        assert files.read_bytes(ref.uri) == content


def test_a_remote_zip_that_is_missing_is_an_error(bucket: dict[str, Blob]) -> None:
    with pytest.raises(ValueError, match=r"gs://b/gone\.zip: expected a zip archive, got: 404 gs://b/gone\.zip"):
        listed(["gs://b/gone.zip"])
