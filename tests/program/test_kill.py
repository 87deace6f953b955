"""kill -9 at any moment, the same command again: the same files, byte for byte."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY_WEIGHTS, tree_bytes, write_photo
from tests.samples.program import whole_shards

SHARDS = 5
PROGRAM = """
import sys
from beam_pipeline.pipeline import main
from tests.samples.fakes import FakeHandler, fake_prepare
sys.exit(main(sys.argv[2:], FakeHandler(seconds=float(sys.argv[1])), fake_prepare))
"""


def start(photos: Path, out: Path, seconds: float) -> subprocess.Popen[bytes]:
    flags = ["--images", photos, "--output", out, "--weights", TINY_WEIGHTS, "--num_shards", SHARDS, "--batch_size", 2]
    flags += ["--failure_threshold", 0.5]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(seconds), *map(str, flags)], cwd=ROOT)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(50):
        write_photo(folder / f"photo_{number}.png", number)
    (folder / "broken.jpg").write_text("broken")
    return folder


@pytest.mark.parametrize("whole_before", [0, 2])
def test_killed_run_resumes_to_the_same_bytes(photos: Path, tmp_path: Path, whole_before: int) -> None:
    assert start(photos, tmp_path / "once", 0.0).wait() == 0
    out = tmp_path / "killed"
    running = start(photos, out, 0.1)
    while len(whole_shards(out)) < whole_before or not list((out / "tfrecord").glob(".tmp-*")):
        assert running.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = whole_shards(out)
    assert whole_before <= len(kept) < SHARDS
    times = {name: (out / "tfrecord" / name).stat().st_mtime_ns for name in kept}

    assert start(photos, out, 0.0).wait() == 0
    assert tree_bytes(out) == tree_bytes(tmp_path / "once")
    assert {name: (out / "tfrecord" / name).stat().st_mtime_ns for name in kept} == times
