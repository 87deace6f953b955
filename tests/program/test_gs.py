"""The whole run on gs://, against a storage emulator on this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.internal.gcp import auth
from apache_beam.io.filesystems import FileSystems

from beam_pipeline.pipeline import main
from tests.conftest import TINY_WEIGHTS, tree_bytes, write_photo
from tests.samples.fakes import FakeHandler, fake_prepare

VOLTA = "resnet101_faster_rcnn_genome_imgfeats/volta/photos_feat.lmdb"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a storage emulator that lives as long as the test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([*command, "--in-memory"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        body = json.dumps({"name": "bucket"}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}/storage/v1/b?project=test", body, headers)
        for _ in range(200):
            try:
                urllib.request.urlopen(request).close()
                break
            except urllib.error.URLError:
                time.sleep(0.05)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        # Otherwise Beam looks for credentials on the network for 25 seconds.
        monkeypatch.setattr(auth._Credentials, "_credentials_init", True)
        yield "gs://bucket"
    finally:
        server.kill()
        server.wait()


def copy_up(source: Path, target: str) -> None:
    with FileSystems.create(target) as stream:
        stream.write(source.read_bytes())


def download(prefix: str) -> dict[str, bytes]:
    found = {}
    for entry in FileSystems.match([f"{prefix}/**"])[0].metadata_list:
        with FileSystems.open(entry.path) as stream:
            found[entry.path.removeprefix(prefix + "/")] = stream.read()
    return found


def test_the_same_files_as_on_a_local_disk(bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    for number in range(7):
        write_photo(photos / f"p_{number}.png", number)
    (photos / "broken.jpg").write_text("broken")
    for path in photos.iterdir():
        copy_up(path, f"{bucket}/data/photos/{path.name}")
    copy_up(TINY_WEIGHTS, f"{bucket}/data/w.caffemodel")
    flags = ["--failure_threshold", "0.5", "--num_shards", "2", "--batch_size", "3"]
    remote = ["--images", f"{bucket}/data/photos", "--weights", f"{bucket}/data/w.caffemodel"]
    assert main([*remote, "--output", f"{bucket}/out", *flags], FakeHandler(), fake_prepare) == 0
    local = ["--images", str(photos), "--weights", str(TINY_WEIGHTS)]
    assert main([*local, "--output", str(tmp_path / "out"), *flags], FakeHandler(), fake_prepare) == 0

    there, here = download(f"{bucket}/out"), tree_bytes(tmp_path / "out")
    assert sorted(there) == sorted(here)
    for name in here:
        if name.endswith((".tfrecord", ".mdb")):
            assert there[name] == here[name]
    assert json.loads(there["manifest.json"])["counts"] == {"in": 8, "written": 7, "failed": 1}

    assert main([*remote, "--output", f"{bucket}/out", *flags], FakeHandler(), fake_prepare) == 0
    assert download(f"{bucket}/out") == there
    capsys.readouterr()
    assert main(["--images", f"{bucket}/data/none/*.jpg", *remote[2:], "--output", f"{bucket}/o"]) == 2
    assert "expected images, found none" in capsys.readouterr().err
