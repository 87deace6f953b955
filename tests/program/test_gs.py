"""The whole run on gs://, against a storage emulator on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beam_pipeline.pipeline import main
from tests.conftest import TINY_WEIGHTS, tree_bytes, write_photo
from tests.samples.buckets import download, upload
from tests.samples.fakes import FakeHandler, fake_prepare


def test_a_bucket_gets_the_same_files_as_a_local_disk(bucket: str, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for number in range(7):
        write_photo(photos / f"p_{number}.png", number)
    (photos / "broken.jpg").write_text("broken")
    for path in photos.iterdir():
        upload(path, f"{bucket}/data/photos/{path.name}")
    upload(TINY_WEIGHTS, f"{bucket}/data/w.caffemodel")
    flags = ["--failure_threshold", "0.5", "--num_shards", "2", "--batch_size", "3"]
    flags += ["--outputs", "tfrecord,lmdb,report"]
    remote = ["--images", f"{bucket}/data/photos", "--weights", f"{bucket}/data/w.caffemodel"]
    assert main([*remote, "--output", f"{bucket}/out", *flags], FakeHandler(), fake_prepare) == 0
    local = ["--images", str(photos), "--weights", str(TINY_WEIGHTS)]
    assert main([*local, "--output", str(tmp_path / "out"), *flags], FakeHandler(), fake_prepare) == 0

    remote_files, local_files = download(f"{bucket}/out"), tree_bytes(tmp_path / "out")
    assert sorted(remote_files) == sorted(local_files)
    compared = [name for name in local_files if name.endswith((".tfrecord", ".mdb"))]
    assert len(compared) == 3  # two shards and an LMDB
    for name in compared:
        assert remote_files[name] == local_files[name]
    pictures = [
        content["report/index.html"].count(b"data:image/jpeg;base64,") for content in (remote_files, local_files)
    ]
    assert pictures[0] == pictures[1] > 7
    assert json.loads(remote_files["manifest.json"])["counts"] == {
        "in": 8,
        "written": 7,
        "failed": 1,
        "computed": 7,
        "reused": 0,
    }

    assert main([*remote, "--output", f"{bucket}/out", *flags], FakeHandler(), fake_prepare) == 0
    assert download(f"{bucket}/out") == remote_files


def test_a_pattern_of_the_bucket_without_images_is_wrong_use(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    upload(TINY_WEIGHTS, f"{bucket}/data/w.caffemodel")
    argv = ["--images", f"{bucket}/data/none/*.jpg", "--weights", f"{bucket}/data/w.caffemodel"]
    assert main([*argv, "--output", f"{bucket}/o"]) == 2
    assert "expected images, found none" in capsys.readouterr().err
