"""Versions of a corpus that changes: when there is a new one, what latest.json names, what is resumed and deleted."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from google.api_core.exceptions import PreconditionFailed

from beam_pipeline import versions as versions_module
from beam_pipeline.output_lock import lock_output
from beam_pipeline.preflight import check
from beam_pipeline.rebuild.change import what_changed
from beam_pipeline.rebuild.cleaning import delete_versions, outdated_versions
from beam_pipeline.rebuild.flags import config_of_version, parse_options
from beam_pipeline.usage import UsageError
from beam_pipeline.version_leases import LEASES_FOLDER, lease_version, leased_versions
from beam_pipeline.versions import Latest, Versions
from tests.conftest import TINY_WEIGHTS, tree_bytes, write_photo
from tests.samples.buckets import download, upload
from tests.samples.versions import latest_folder, rebuild, version_names


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(6):
        write_photo(folder / f"photo_{number}.png", number)
    return folder


def counts_of(version: Path) -> dict[str, int]:
    return dict(json.loads((version / "manifest.json").read_text())["counts"])


def test_a_rebuild_makes_a_version_only_where_something_changed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    assert rebuild(root, "--images", photos) == 0
    first = latest_folder(root)
    assert f"{root}: version {first.name} is the latest" in capsys.readouterr().out
    (photos / "readme.md").write_text("no image")
    assert rebuild(root, "--images", photos) == 0
    assert f"{root}: nothing changed since version {first.name}, which stays" in capsys.readouterr().out
    assert version_names(root) == [first.name]
    write_photo(photos / "photo_6.png", 6)
    assert rebuild(root, "--images", photos) == 0
    second = latest_folder(root)
    assert version_names(root) == [first.name, second.name] and second.name > first.name
    assert counts_of(second) == {"in": 7, "written": 7, "failed": 0, "computed": 1, "reused": 6}
    assert not list(root.glob(".tmp-*"))


def test_what_makes_a_new_version(corpus: Path, tmp_path: Path) -> None:
    root, image = tmp_path / "root", corpus / "images" / "val2014" / "COCO_val2014_000000000100.jpg"
    assert rebuild(root, "--corpus", corpus) == 0
    manifest = json.loads((latest_folder(root) / "manifest.json").read_text())

    def change(*flags: str) -> str | None:
        options = parse_options([str(root), "--corpus", str(corpus), "--weights", str(TINY_WEIGHTS), *flags])
        config, _ = config_of_version(options, f"{root}/versions/new", None)
        return what_changed(check(config), manifest)

    assert change() is None
    assert change("--batch_size", "3", "--device", "cpu") is None
    assert change("--outputs", "tfrecord,captions,lmdb") is None
    assert change("--outputs", "tfrecord,lmdb") == "the output annotations changed"
    assert change("--outputs", "tfrecord,captions,lmdb,tsv") == "the output tsv changed"
    assert change("--lmdb_form", "safetensors") == "the output lmdb changed"
    assert change("--min_boxes", "10") == "the setting min_boxes was 36, now it is 10"
    assert change("--num_shards", "2") == "images came, went or changed"
    assert change("--test1k_ids", str(corpus / "test1k_ids.txt")) is None
    assert change("--retry_failed") is None
    manifest["counts"]["failed"] = 2
    assert change("--retry_failed") == "2 failed images are tried again"
    manifest["versions"]["torch"] = "another"
    assert change() is None
    (corpus / "test1k_ids.txt").write_text("100\n777\n")
    assert change() == "the inputs changed"
    (corpus / "test1k_ids.txt").write_text("777\n100\n")
    before = image.stat()
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert change() == "images came, went or changed"
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert change() is None
    captions = corpus / "dataset_coco.json"
    captions.write_text(captions.read_text().replace("number 0", "number zero", 1))
    assert change() and str(change()).startswith("the setting captions_sha256 was ")


def test_a_failed_rebuild_leaves_the_latest_version_and_is_resumed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    assert rebuild(root, "--images", photos) == 0
    first = latest_folder(root)
    (photos / "broken.png").write_text("broken")
    assert rebuild(root, "--images", photos) == 1
    assert latest_folder(root) == first
    (unfinished,) = set(version_names(root)) - {first.name}
    assert "1 of 7 images failed" in capsys.readouterr().err
    write_photo(photos / "broken.png", 7)
    assert rebuild(root, "--images", photos) == 0
    assert latest_folder(root).name == unfinished
    assert version_names(root) == [first.name, unfinished]


def test_a_whole_version_that_was_not_named_is_named_without_a_run(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    assert rebuild(root, "--images", photos) == 0
    version = latest_folder(root)
    written = (version / "manifest.json").stat().st_mtime_ns
    (root / "latest.json").unlink()
    assert rebuild(root, "--images", photos) == 0
    assert f"version {version.name} is the latest" in capsys.readouterr().out
    assert latest_folder(root) == version and (version / "manifest.json").stat().st_mtime_ns == written


def test_an_unfinished_version_of_other_flags_is_given_up(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    assert rebuild(root, "--images", photos) == 0
    (photos / "broken.png").write_text("broken")
    assert rebuild(root, "--images", photos) == 1
    unfinished = version_names(root)[-1]
    (photos / "broken.png").unlink()
    assert rebuild(root, "--images", photos) == 0
    first = latest_folder(root)
    assert version_names(root) == [first.name], "the change was taken back, and with it the version"
    (photos / "broken.png").write_text("broken")
    assert rebuild(root, "--images", photos) == 1
    unfinished = version_names(root)[-1]
    capsys.readouterr()
    assert rebuild(root, "--images", photos, "--min_boxes", 10, "--failure_threshold", 0.5) == 0
    error = capsys.readouterr().err
    assert f"the unfinished version {unfinished} cannot go on: " in error and "min_boxes was 36" in error
    assert unfinished not in version_names(root) and latest_folder(root).name > unfinished


def test_a_first_build_that_was_cut_is_not_lost_when_the_corpus_grows(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (photos / "broken.png").write_text("broken")
    assert rebuild(root, "--images", photos, "--num_shards", 2) == 1
    assert not (root / "latest.json").exists()
    (cut,) = version_names(root)
    (photos / "broken.png").unlink()
    write_photo(photos / "photo_6.png", 6)
    assert rebuild(root, "--images", photos, "--num_shards", 2) == 0
    version = latest_folder(root)
    assert counts_of(version) == {"in": 7, "written": 7, "failed": 0, "computed": 1, "reused": 6}
    assert version_names(root) == [version.name] and version.name > cut


def test_an_unfinished_version_of_new_settings_is_a_better_source_than_the_latest(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, wide = tmp_path / "root", ["--min_boxes", "10"]
    assert rebuild(root, "--images", photos) == 0
    first = latest_folder(root)
    (photos / "broken.png").write_text("broken")
    assert rebuild(root, "--images", photos, *wide) == 1
    (photos / "broken.png").unlink()
    write_photo(photos / "photo_6.png", 6)
    assert rebuild(root, "--images", photos, *wide) == 0
    assert counts_of(latest_folder(root))["reused"] == 6
    assert version_names(root) == [first.name, latest_folder(root).name]
    assert "no record of --reuse" not in capsys.readouterr().err.partition("cannot go on")[2]


def test_checksum_finds_a_change_that_keeps_size_and_time(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, image = tmp_path / "root", photos / "photo_3.png"
    assert rebuild(root, "--images", photos, "--checksum") == 0
    first = latest_folder(root)
    assert rebuild(root, "--images", photos, "--checksum") == 0
    assert f"nothing changed since version {first.name}" in capsys.readouterr().out
    assert version_names(root) == [first.name]
    before, data = image.stat(), bytearray(image.read_bytes())
    data[-1] ^= 1  # of the CRC of PNG's last chunk, which no decoder reads
    image.write_bytes(data)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert rebuild(root, "--images", photos) == 0
    assert latest_folder(root) == first
    assert rebuild(root, "--images", photos, "--checksum") == 0
    assert counts_of(latest_folder(root))["computed"] == 1
    assert version_names(root) == [first.name, latest_folder(root).name]


def test_a_dry_run_says_what_the_next_version_costs_and_writes_nothing(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    assert rebuild(root, "--images", photos, "--dry_run") == 0
    assert "6 new or changed" in capsys.readouterr().out and not root.exists()
    assert rebuild(root, "--images", photos) == 0
    write_photo(photos / "photo_6.png", 6)
    before = tree_bytes(root)
    capsys.readouterr()
    assert rebuild(root, "--images", photos, "--dry_run") == 0
    assert "1 new or changed, 0 to be compared with what an earlier run read, 6 taken over" in capsys.readouterr().out
    assert tree_bytes(root) == before


def test_of_two_rebuilds_at_once_the_second_stops(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    with lock_output(str(root)):
        assert rebuild(root, "--images", photos) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"rebuild: ROOT {root}: another run is writing to it (process {os.getpid()} on ")
        assert error.count("\n") == 1
    assert rebuild(root, "--images", photos) == 0


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
    monkeypatch.setattr("beam_pipeline.version_leases._RENEWAL_SECONDS", 0.01)
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


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["ROOT", "--images", "x", "--weights", "w", "--output", "out"], "--output: a rebuild names its output by"),
        (["ROOT", "--images", "x", "--weights", "w", "--output=out"], "--output: a rebuild names its output by"),
        (["ROOT", "--images", "x", "--weights", "w", "--overwrite"], "--overwrite: a rebuild never overwrites"),
        (["ROOT", "--no_wait"], "--no_wait: a rebuild waits for its job"),
        (["ROOT", "--template_location", "gs://b/t"], "--template_location: a rebuild runs its job"),
        (["ROOT", "--reuse", "out"], "--reuse: a rebuild reuses its latest version by itself"),
        (["--images", "x", "ROOT"], "expected ROOT, the folder of the versions, before all flags, got --images"),
        ([], "the following arguments are required: ROOT"),
        (["ROOT", "--keep_versions", "0"], "argument --keep_versions: expected a whole number of at least 1, got '0'"),
    ],
)
def test_wrong_flags_are_named(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_options(argv)
    assert str(refused.value).startswith(message)


def test_wrong_flags_of_the_run_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    assert rebuild(root, "--images", tmp_path / "none" / "*.jpg") == 2
    assert rebuild(root, "--images", "x", "--outputs", "lmdb") == 2
    assert rebuild(root, "--images", "x", "--min_box", "3") == 2
    errors = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2][:40] for line in errors] == [
        f"{tmp_path}/none/*.jpg: expected images, found"[:40],
        "--outputs: a version is whole by itself;",
        "unknown flag --min_box; did you mean --m",
    ]
    assert not root.exists()


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
    monkeypatch.setattr("beam_pipeline.versions.files.sha256_of", lambda path: "0" * 64)
    for replaced in (None, Latest("20260101T000000Z", "0" * 64, 7)):
        with pytest.raises(OSError, match=r"gs://bucket/root/latest.json: another rebuild replaced it"):
            Versions("gs://bucket/root").replace_latest("20260102T000000Z", replaced)
    assert stated == [0, 7]


def test_a_bucket_gets_versions(bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = f"{bucket}/corpus"
    for number in range(4):
        write_photo(tmp_path / f"p_{number}.png", number)
        upload(tmp_path / f"p_{number}.png", f"{bucket}/data/photos/p_{number}.png")
    flags = ["--images", f"{bucket}/data/photos", "--keep_versions", "1"]
    with lock_output(root):
        assert rebuild(root, *flags) == 2
    assert rebuild(root, *flags) == 0
    (first,) = Versions(root).names()
    assert rebuild(root, *flags) == 0
    assert Versions(root).names() == [first]
    assert f"nothing changed since version {first}" in capsys.readouterr().out
    upload(tmp_path / "p_0.png", f"{bucket}/data/photos/p_4.png")
    notes: list[str] = []
    with lease_version(root, first, notes.append):
        assert rebuild(root, *flags) == 0
        assert f"versions/{first} stays: it is being fetched" in capsys.readouterr().err
    first_again, second = Versions(root).names()
    latest = Versions(root).read_latest()
    assert (first_again, latest and latest.version) == (first, second)
    assert rebuild(root, *flags) == 0
    left = {name.split("/")[1] for name in download(root) if name.startswith("versions/")}
    assert left == {second} and notes == []
