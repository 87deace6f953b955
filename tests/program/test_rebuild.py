"""Versions of a corpus that changes: when there is a new one, what latest.json names, what is resumed and deleted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from beam_pipeline.output_lock import lock_output
from beam_pipeline.preflight.job import check
from beam_pipeline.rebuild.change import what_changed
from beam_pipeline.rebuild.flags import config_of_version, parse_options
from beam_pipeline.rebuild.leases import lease_version
from beam_pipeline.rebuild.versions import Versions
from beam_pipeline.usage import UsageError
from tests.conftest import TINY_WEIGHTS, tree_bytes, write_photo
from tests.samples.buckets import download, upload
from tests.samples.versions import latest_folder, rebuild, version_names


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
        ([], "expected ROOT, got nothing"),
        (["ROOT", "--keep_versions", "0"], "--keep_versions: expected a whole number of at least 1, got '0'"),
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
        f"--images {tmp_path}/none/*.jpg: expected images, found"[:40],
        "--outputs: a version is whole by itself;",
        "unknown flag --min_box; did you mean --m",
    ]
    assert not root.exists()


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
