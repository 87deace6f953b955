"""A bucket of a storage emulator, and a folder of photographs, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.internal.gcp import auth

from benchmarks.support.faulty_storage import BUCKET, FaultyStorage, emulator, faulty_storage
from tests.conftest import write_photo


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStorage]:
    """Start a storage emulator that lives as long as the test; a test scripts the faults of the network before it."""
    with emulator() as address, faulty_storage(address) as storage:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.base)
        # Otherwise Beam looks for credentials on the network for 25 seconds.
        monkeypatch.setattr(auth._Credentials, "_credentials_init", True)
        yield storage


@pytest.fixture
def bucket(storage: FaultyStorage) -> str:
    """Name the emulator's bucket."""
    return f"gs://{BUCKET}"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write a folder of six photographs."""
    folder = tmp_path / "photos"
    for number in range(6):
        write_photo(folder / f"photo_{number}.png", number)
    return folder
