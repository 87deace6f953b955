"""An image that kills the process is a failure once two runs have died of it, and its neighbours are not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from region_features.records.plan import ShardKey
from tests.conftest import ROOT, TINY_WEIGHTS, tree_bytes, write_photo
from transforms import quarantine

# Every process that starts with this on its path has a decoder that aborts on images that hold the mark.
ABORTING_DECODER = """
import os, sys
def patch():
    from region_features.images import decode
    real = decode.decode_image
    def aborting(data, *more):
        if b"POISON" in data:
            os.abort()
        return real(data, *more)
    decode.decode_image = aborting
patch()
"""
PROGRAM = """
import sys
from beam_pipeline.pipeline import main
from tests.samples.fakes import FakeHandler, fake_prepare
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], FakeHandler(), fake_prepare))
"""

KILLED_AT_A_TRIAL = """
import os, signal, time
from transforms.quarantine import Trial
if __name__ == "__main__":
    trial = Trial()
    trial.survive(time.sleep, 0)
    print(*trial._pool._processes, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(12):
        write_photo(folder / f"photo_{number}.png", number)
    with (folder / "photo_7.png").open("ab") as stream:
        stream.write(b"POISON")
    return folder


def run(photos: Path, out: Path, poison: bool = True) -> subprocess.CompletedProcess[str]:
    flags = ["--images", photos, "--output", out, "--weights", TINY_WEIGHTS, "--num_shards", 3]
    path = out.parent / "path"
    path.mkdir(exist_ok=True)
    (path / "sitecustomize.py").write_text(ABORTING_DECODER if poison else "")
    (path / "run_program.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}"}
    command = [sys.executable, str(path / "run_program.py"), *map(str, [*flags, "--failure_threshold", 0.5])]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_image_that_kills_is_a_failure_after_two_deaths(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        assert run(photos, out).returncode == -6
    done = run(photos, out)
    assert done.returncode == 0, done.stderr
    (failure,) = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert (failure["img_id"], failure["stage"]) == ("photo_7", "decode")
    assert failure["reason"] == "the process that decoded it alone died, after 2 runs had died at its shard"
    assert json.loads((out / "manifest.json").read_text())["counts"] == {
        "in": 12,
        "written": 11,
        "failed": 1,
        "computed": 11,
        "reused": 0,
    }
    assert not list((out / "tfrecord").glob(".tmp-*"))


def test_images_that_are_tried_apart_give_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shards = [ShardKey("photos", number, 3, 4) for number in range(3)]
    for shard in shards * 2:
        assert not quarantine.begin(str(out / "tfrecord"), shard)[1]
    assert run(photos, out, poison=False).returncode == 0
    assert run(photos, tmp_path / "once", poison=False).returncode == 0
    assert tree_bytes(out) == tree_bytes(tmp_path / "once")


def test_marks_count_the_deaths_at_one_shard_and_go_when_it_is_published(tmp_path: Path) -> None:
    folder = str(tmp_path)
    one, other = ShardKey("a", 0, 2, 5), ShardKey("a", 1, 2, 5)
    assert [quarantine.begin(folder, one)[1] for _ in range(4)] == [False, False, True, True]
    assert not quarantine.begin(folder, other)[1]
    quarantine.end(folder, one)
    assert not quarantine.begin(folder, one)[1]
    assert not quarantine.begin(folder, other)[1]


def test_the_process_that_tries_images_ends_with_a_killed_program(tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(KILLED_AT_A_TRIAL)
    command, environment = [sys.executable, str(tmp_path / "killed.py")], {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    child = killed.stdout.strip()
    deadline = time.monotonic() + 20
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert child.isdigit() and not is_running(child)


def is_running(pid: str) -> bool:
    """Return whether a process works or waits; one that ended may stay listed where nobody asks for its status."""
    try:
        return "\nState:\tZ" not in Path("/proc", pid, "status").read_text()
    except FileNotFoundError:
        return False
