"""Versions and their leases: which are deleted, which is the latest, and what is refused."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from google.api_core.exceptions import PreconditionFailed

from beam_pipeline.output_lock import lock_output
from beam_pipeline.rebuild import versions as versions_module
from beam_pipeline.rebuild.cleaning import delete_versions, outdated_versions
from beam_pipeline.rebuild.leases import LEASES_FOLDER, lease_version, leased_versions
from beam_pipeline.rebuild.versions import Latest, Versions
from tests.conftest import write_photo
from tests.samples.versions import latest_folder, rebuild, version_names


def test_old_versions_are_deleted_but_what_is_held_stays(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    for number in range(4):
        write_photo(photos / "photo_0.png", 100 + number)
        assert rebuild(root, "--images", photos) == 0
    _, second, third, fourth = version_names(root)
    notes: list[str] = []
    with lease_version(str(root), second, notes.append), lock_output(str(root / "versions" / third)):
        assert leased_versions(str(root)) == {second}
        assert rebuild(root, "--images", photos, "--keep_versions", 1) == 0
    error = capsys.readouterr().err
    assert f"{root}/versions/{second} stays: it is being fetched" in error
    assert f"{root}/versions/{third} stays: {root}/versions/{third}: another run is writing to it" in error
    assert version_names(root) == [second, third, fourth] and notes == []
    (root / "versions" / "mine").mkdir()
    assert rebuild(root, "--images", photos, "--keep_versions", 2) == 0
    assert version_names(root) == [third, fourth, "mine"]
    assert latest_folder(root).name == fourth


def test_rests_of_deleted_versions_go_with_the_next_deletion(tmp_path: Path) -> None:
    versions = Versions(str(tmp_path))
    names = [f"2026010{day}T000000Z" for day in range(1, 6)]
    for name in names:
        folder = tmp_path / "versions" / name
        folder.mkdir(parents=True)
        if name != names[1]:
            (folder / "manifest.json").touch()
    assert outdated_versions(versions, names[3], 9) == [names[1]]
    assert outdated_versions(versions, names[3], 2) == names[:2]
    assert outdated_versions(versions, names[3], 1) == names[:3]
    delete_versions(versions, names[:2], lambda note: None)
    assert version_names(tmp_path) == names[2:]


def test_a_lease_ends_with_its_block_and_expires_with_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, notes = str(tmp_path / "root"), list[str]()
    monkeypatch.setattr("beam_pipeline.rebuild.leases._RENEWAL_SECONDS", 0.01)
    with lease_version(root, "v1", notes.append):
        (lease,) = (tmp_path / "root" / LEASES_FOLDER).iterdir()
        before, deadline = lease.read_bytes(), time.monotonic() + 10
        while lease.read_bytes() == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lease.read_bytes() != before, "the lease is renewed"
    assert leased_versions(root) == set()
    lease.write_text(json.dumps({"expires": time.time() - 1}))
    assert leased_versions(root) == set() and not lease.exists()
    lease.write_text("damaged")
    assert leased_versions(root) == set() and notes == []


def test_a_lease_that_cannot_be_written_is_noted(tmp_path: Path) -> None:
    (tmp_path / LEASES_FOLDER).write_text("a file")
    notes: list[str] = []
    with lease_version(str(tmp_path), "v1", notes.append):
        pass
    assert notes == [f"{tmp_path} cannot be written: a rebuild with --keep_versions may delete v1 meanwhile"]


def test_a_latest_version_that_is_not_there_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    assert rebuild(root, "--images", photos) == 0
    manifest = latest_folder(root) / "manifest.json"
    for damage, message in (("{}", "expected the SHA-256 that latest.json says"), ("", "named by latest.json, and")):
        capsys.readouterr()
        manifest.write_text(damage) if damage else manifest.unlink()
        assert rebuild(root, "--images", photos) == 1
        error = capsys.readouterr().err
        assert message in error and "delete " in error and error.count("\n") == 1
    (root / "latest.json").write_text('{"version": "../x", "manifest_sha256": "0"}')
    assert rebuild(root, "--images", photos) == 1
    assert "latest.json: expected the name of a version" in capsys.readouterr().err
    assert len(version_names(root)) == 1


def test_a_new_name_follows_all_others_even_if_the_clock_went_back(tmp_path: Path) -> None:
    versions = Versions(str(tmp_path))
    assert versions.new_name() <= time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    (tmp_path / "versions" / "29991231T235959Z").mkdir(parents=True)
    assert versions.new_name() == "30000101T000000Z"


def test_another_rebuild_that_replaced_latest_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    stated: list[int] = []

    def upload_from_string(data: bytes, content_type: str, if_generation_match: int) -> None:
        stated.append(if_generation_match)
        raise PreconditionFailed("generation")

    blob = SimpleNamespace(upload_from_string=upload_from_string)
    client = SimpleNamespace(bucket=lambda name: SimpleNamespace(blob=lambda name: blob))
    monkeypatch.setattr(versions_module, "gcs_client", lambda: client)
    monkeypatch.setattr("beam_pipeline.rebuild.versions.files.sha256_of", lambda path: "0" * 64)
    for replaced in (None, Latest("20260101T000000Z", "0" * 64, 7)):
        with pytest.raises(OSError, match=r"gs://bucket/root/latest.json: another rebuild replaced it"):
            Versions("gs://bucket/root").replace_latest("20260102T000000Z", replaced)
    assert stated == [0, 7]
