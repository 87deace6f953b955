"""kill -9 of a run on gs:// whose network meets faults, the same command again: the same objects, byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from beam_pipeline import output_lock
from beam_pipeline.output_lock import LOCK
from beam_pipeline.pipeline import main
from benchmarks.support.faulty_storage import BUCKET, FaultyStorage
from region_features.records.stats import STATS_SUFFIX
from tests.conftest import ROOT, TINY_WEIGHTS, write_photo
from tests.samples.buckets import download, upload
from tests.samples.fakes import FakeHandler, fake_prepare

SHARDS = 2
LEASE_SECONDS = 1.0
PROGRAM = f"""
import sys
from apache_beam.internal.gcp import auth
from beam_pipeline import output_lock
from beam_pipeline.pipeline import main
from tests.samples.fakes import FakeHandler, fake_prepare
auth._Credentials._credentials_init = True
output_lock.LEASE_SECONDS, output_lock._HEARTBEAT_SECONDS = {LEASE_SECONDS}, {LEASE_SECONDS / 4}
sys.exit(main(sys.argv[1:], FakeHandler(seconds=0.5), fake_prepare))
"""


def flags_of(bucket: str, output: str) -> list[str]:
    flags = ["--images", f"{bucket}/photos", "--weights", f"{bucket}/w.caffemodel", "--output", f"{bucket}/{output}"]
    return [*flags, "--num_shards", str(SHARDS), "--batch_size", "1", "--failure_threshold", "0.5"]


def names_in(storage: FaultyStorage, folder: str) -> list[str]:
    """List objects without the faulty network, so that the run does not end meanwhile."""
    with urllib.request.urlopen(f"{storage.upstream}/storage/v1/b/{BUCKET}/o?prefix={folder}/") as reply:
        return [item["name"].rpartition("/")[2] for item in json.load(reply)["items"]]


def test_a_killed_run_on_a_faulty_network_resumes_to_the_same_bytes(
    storage: FaultyStorage, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        write_photo(tmp_path / f"photo_{number}.png", number)
    (tmp_path / "broken.jpg").write_text("broken")
    for path in tmp_path.iterdir():
        upload(path, f"{bucket}/photos/{path.name}")
    upload(TINY_WEIGHTS, f"{bucket}/w.caffemodel")
    assert main(flags_of(bucket, "once"), FakeHandler(), fake_prepare) == 0

    storage.rate = 0.1
    for shards_before in (0, 1):
        running = subprocess.Popen([sys.executable, "-c", PROGRAM, *flags_of(bucket, "killed")], cwd=ROOT)
        try:
            names: list[str] = []
            # Until it holds the lease, or has published a shard.
            while sum(name.endswith(STATS_SUFFIX) for name in names) < shards_before or LOCK not in names:
                assert running.poll() is None, "the run ended before it could be killed"
                time.sleep(0.05)
                names = names_in(storage, "killed")
        finally:
            running.kill()
            running.wait()
        time.sleep(LEASE_SECONDS)
    monkeypatch.setattr(output_lock, "_HEARTBEAT_SECONDS", LEASE_SECONDS / 4)
    assert main(flags_of(bucket, "killed"), FakeHandler(), fake_prepare) == 0
    storage.rate = 0.0
    assert storage.met.total() > 3
    assert download(f"{bucket}/killed") == download(f"{bucket}/once")
