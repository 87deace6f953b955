"""Ctrl-C and SIGTERM at any moment: one line, the status that shells expect, nothing lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY_WEIGHTS, tree_bytes, write_photo
from tests.samples.program import whole_shards

PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from beam_pipeline import process
class Program:
    @staticmethod
    def main(argv):
        from beam_pipeline.pipeline import main
        from tests.samples.fakes import FakeHandler, fake_prepare
        return main(argv[1:], FakeHandler(seconds=float(argv[0])), fake_prepare)
sys.modules["beam_pipeline.fake"] = Program
sys.exit(process.run_command("beam_pipeline.fake"))
"""
SHARDS = 4


def start(photos: Path, out: Path, seconds: float) -> subprocess.Popen[str]:
    flags = ["--images", photos, "--output", out, "--weights", TINY_WEIGHTS, "--num_shards", SHARDS, "--batch_size", 2]
    command = [sys.executable, "-c", PROGRAM, str(seconds), *map(str, flags)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(40):
        write_photo(folder / f"photo_{number}.png", number)
    return folder


def send_while_detecting(photos: Path, out: Path, number: signal.Signals) -> subprocess.Popen[str]:
    """Start a run, and send it a signal in the middle of its second shard."""
    running = start(photos, out, 0.3)
    while len(whole_shards(out)) < 1:
        assert running.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.01)
    time.sleep(0.3)
    running.send_signal(number)
    return running


def test_sigterm_finishes_the_open_shard_and_ends_with_143(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = send_while_detecting(photos, out, signal.SIGTERM)
    kept = whole_shards(out)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 143
    lines = [line for line in error.splitlines() if line]
    assert lines == [
        f"beam_pipeline: terminated; whole shards in {out}/tfrecord stay, run the same command again to go on"
    ]
    assert len(whole_shards(out)) == len(kept) + 1 < SHARDS
    assert not list(out.glob(".tmp-lock*"))
    assert start(photos, out, 0.0).wait() == 0
    assert start(photos, tmp_path / "once", 0.0).wait() == 0
    assert tree_bytes(out) == tree_bytes(tmp_path / "once")


def test_ctrl_c_ends_at_once_with_130(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = send_while_detecting(photos, out, signal.SIGINT)
    sent = time.monotonic()
    _, error = running.communicate(timeout=60)
    assert running.returncode == 130 and time.monotonic() - sent < 5
    assert error.strip().splitlines()[-1].startswith("beam_pipeline: interrupted; whole shards in ")
    assert "Traceback" not in error
    assert start(photos, out, 0.0).wait() == 0


def wait_for_own_handlers(running: subprocess.Popen[str]) -> None:
    """Wait until a process of the program handles SIGTERM; until then Python itself is starting."""
    while running.poll() is None:
        caught = int(Path(f"/proc/{running.pid}/status").read_text().partition("SigCgt:")[2].split()[0], 16)
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", [f"beam_pipeline{name}" for name in ("", ".verify", ".inspect", ".compare")])
def test_a_signal_while_the_imports_run_is_one_line(command: str, number: signal.Signals) -> None:
    delays = random.Random(f"{command} {number}")
    for _ in range(3):
        running = subprocess.Popen(
            [sys.executable, "-m", command, "no", "such", "flag"], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        wait_for_own_handlers(running)
        time.sleep(delays.random())
        running.send_signal(number)
        _, error = running.communicate(timeout=60)
        # 2: it had refused the words before the signal came, or was just ending for it.
        assert running.returncode in (2, -number, 128 + number), error
        assert len(error.splitlines()) == 1 and "Traceback" not in error, error
