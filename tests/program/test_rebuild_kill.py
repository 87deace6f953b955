"""kill -9 at any moment of a rebuild: latest.json names a whole version, and the same command goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from region_features.records.stats import STATS_SUFFIX
from tests.conftest import ROOT, TINY_WEIGHTS, tree_bytes, write_photo
from tests.samples.program import run, whole_shards
from tests.samples.versions import latest_folder, rebuild, version_names

SHARDS = 4
PROGRAM = """
import sys
from beam_pipeline import process
class Program:
    @staticmethod
    def main(argv):
        from beam_pipeline.rebuild.command import main
        from tests.samples.fakes import FakeHandler, fake_prepare
        return main(argv, FakeHandler(seconds=0.1), fake_prepare)
sys.modules["beam_pipeline.fake"] = Program
sys.exit(process.run_command("beam_pipeline.fake"))
"""
# By the folder of the version that is being made.
MOMENTS: tuple[Callable[[Path], bool], ...] = (
    lambda version: version.exists(),
    lambda version: len(whole_shards(version)) >= 1,
    lambda version: len(whole_shards(version)) >= 2,
    lambda version: len(whole_shards(version)) == SHARDS,
    lambda version: (version / "manifest.json").exists(),
)


def flags_of(photos: Path) -> list[str]:
    return ["--images", str(photos), "--num_shards", str(SHARDS), "--batch_size", "2"]


def start(root: Path, photos: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(root), *flags_of(photos), "--weights", str(TINY_WEIGHTS)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stop_at(running: subprocess.Popen[str], reached: Callable[[], bool], number: signal.Signals) -> None:
    while running.poll() is None and not reached():
        time.sleep(0.005)
    running.send_signal(number)


def outputs_of(folder: Path) -> dict[str, bytes]:
    """Read an output but for manifest and stats, which say how many records were taken over."""
    says_how = ("manifest.json", "manifest.json.sha256", STATS_SUFFIX)
    return {name: data for name, data in tree_bytes(folder).items() if not name.endswith(says_how)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(16):
        write_photo(tmp_path / "photos" / f"photo_{number}.png", number)
    return tmp_path / "photos"


def test_killed_rebuilds_leave_a_whole_version_and_go_on(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert rebuild(root, *flags_of(photos)) == 0
    first = latest_folder(root)
    write_photo(photos / "photo_16.png", 16)
    for reached in MOMENTS:
        running = start(root, photos)

        def is_reached(reached: Callable[[Path], bool] = reached) -> bool:
            newest = version_names(root)[-1]
            return newest != first.name and reached(root / "versions" / newest)

        stop_at(running, is_reached, signal.SIGKILL)
        running.communicate()
        assert latest_folder(root) == first or running.returncode == 0
        assert len(version_names(root)) == 2, "the unfinished version goes on"
    assert rebuild(root, *flags_of(photos)) == 0
    second = latest_folder(root)
    assert version_names(root) == [first.name, second.name]
    assert not [path for path in root.rglob("*") if path.name.startswith(".tmp-")]
    assert run("--output", tmp_path / "once", *flags_of(photos)) == 0
    assert outputs_of(second) == outputs_of(tmp_path / "once")


def test_sigterm_gives_the_lock_up_and_says_how_to_go_on(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    running = start(root, photos)
    stop_at(running, lambda: any(whole_shards(version) for version in (root / "versions").glob("*")), signal.SIGTERM)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 143, error
    assert error.splitlines()[-1].startswith(f"beam_pipeline: terminated; whole shards in {root}/versions/")
    assert not list(root.glob(".tmp-lock*")) and not (root / "latest.json").exists()
    assert rebuild(root, *flags_of(photos)) == 0
    assert [latest_folder(root).name] == version_names(root)
