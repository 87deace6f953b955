"""Of two runs that write to one output the second stops with one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.api_core.exceptions import NotFound, PreconditionFailed

from beam_pipeline import output_lock
from beam_pipeline.commit import delete_temporaries
from beam_pipeline.output_lock import LOCK, Lease, lock_output
from beam_pipeline.pipeline import main
from beam_pipeline.preflight.job import Job
from beam_pipeline.usage import UsageError
from region_features.records.plan import SHARDS_FOLDER
from tests.conftest import ROOT, TINY_WEIGHTS, write_photo
from tests.samples.fakes import FakeHandler, fake_prepare
from transforms import files

HOLDER = """
import sys
from beam_pipeline.output_lock import lock_output
with lock_output(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def flags_of(tmp_path: Path, output: object) -> list[str]:
    write_photo(tmp_path / "photos" / "x.png", 1)
    return ["--images", str(tmp_path / "photos"), "--weights", str(TINY_WEIGHTS), "--output", str(output)]


def test_the_second_run_stops_with_one_line_and_the_first_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", HOLDER, str(out)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stdin and holder.stdout.readline() == "held\n"
        assert main(flags_of(tmp_path, out), FakeHandler(), fake_prepare) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"--output {out}: another run is writing to it (process {holder.pid} on " in error
        holder.stdin.close()
    assert main(flags_of(tmp_path, out), FakeHandler(), fake_prepare) == 0
    assert not list(out.glob(".tmp-*"))


def test_a_killed_owner_holds_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", HOLDER, str(out)]
    holder = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    assert (out / LOCK).exists()
    with lock_output(str(out)):
        assert json.loads((out / f"{LOCK}.owner").read_text())["pid"] == os.getpid()
    assert list(out.iterdir()) == []


def test_a_run_that_deletes_unfinished_files_holds_its_output_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    refusals = []

    def delete_and_start_another(job: Job) -> None:
        (out / ".tmp-left").touch()
        delete_temporaries(job)
        assert [path.name for path in sorted(out.glob(".tmp-*"))] == [LOCK, f"{LOCK}.owner"]
        with pytest.raises(UsageError, match="another run is writing to it") as refused, lock_output(str(out)):
            pass
        refusals.append(refused.value)

    monkeypatch.setattr("beam_pipeline.pipeline.delete_temporaries", delete_and_start_another)
    assert main(flags_of(tmp_path, out), FakeHandler(), fake_prepare) == 0
    assert len(refusals) == 1 and not list(out.glob(".tmp-*"))


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    assert main(["--images", str(tmp_path / "none*"), "--weights", "w", "--output", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_a_folder_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="expected a folder to write to"), lock_output(str(tmp_path / "file" / "out")):
        pass


class FakeBucket:
    """A bucket that keeps generations as Google's storage does."""

    name = "bucket"

    def __init__(self) -> None:
        self.objects: dict[str, tuple[int, bytes]] = {}
        self.clock = 0

    def get_blob(self, name: str) -> Any:
        return self.blob(name) if name in self.objects else None

    def blob(self, name: str) -> Any:
        bucket = self
        blob = SimpleNamespace(generation=self.objects.get(name, (0, b""))[0])

        def check(expected: int) -> None:
            if bucket.objects.get(name, (0, b""))[0] != expected:
                raise PreconditionFailed("generation")

        def upload_from_string(text: str, if_generation_match: int) -> None:
            check(if_generation_match)
            bucket.clock += 1
            blob.generation = bucket.clock
            bucket.objects[name] = (bucket.clock, text.encode())

        def delete(if_generation_match: int) -> None:
            if name not in bucket.objects:
                raise NotFound("gone")
            check(if_generation_match)
            del bucket.objects[name]

        blob.upload_from_string, blob.delete = upload_from_string, delete
        blob.download_as_bytes = lambda: bucket.objects[name][1]
        return blob


def test_a_lease_is_held_by_one_run_and_given_up_at_its_end() -> None:
    bucket = FakeBucket()
    with Lease(bucket, "out/lock"):
        with pytest.raises(UsageError, match=rf"gs://bucket/out: another run .*process {os.getpid()} on"):
            Lease(bucket, "out/lock").__enter__()
        assert "out/lock" in bucket.objects
    assert bucket.objects == {}


def test_of_two_runs_that_create_the_lease_at_once_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = FakeBucket()
    monkeypatch.setattr(bucket, "get_blob", lambda name: None)  # both looked before either wrote
    with Lease(bucket, "out/lock"), pytest.raises(UsageError, match="another run is writing"):
        Lease(bucket, "out/lock").__enter__()


def test_the_lease_of_a_dead_owner_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = FakeBucket()
    Lease(bucket, "out/lock")._write()  # died without an end
    with pytest.raises(UsageError):
        Lease(bucket, "out/lock").__enter__()
    later = time.time() + output_lock.LEASE_SECONDS + 1
    monkeypatch.setattr("beam_pipeline.output_lock.time.time", lambda: later)
    with Lease(bucket, "out/lock"):
        assert bucket.clock == 2


def test_a_lease_is_renewed_while_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_lock, "_HEARTBEAT_SECONDS", 0.01)
    bucket = FakeBucket()
    with Lease(bucket, "out/lock"):
        deadline = time.monotonic() + 10
        while bucket.clock < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert bucket.clock >= 4
    assert bucket.objects == {}


RUN = """
import sys
from apache_beam.internal.gcp import auth
from beam_pipeline import output_lock
from beam_pipeline.pipeline import main
from tests.samples.fakes import FakeHandler, fake_prepare
auth._Credentials._credentials_init = True
output_lock._HEARTBEAT_SECONDS = 0.1
main(sys.argv[1:], FakeHandler(seconds=60), fake_prepare)
"""


def test_a_run_whose_lease_was_taken_ends_with_one_line_even_where_sigint_is_ignored(
    bucket: str, tmp_path: Path
) -> None:
    out = f"{bucket}/out"
    running = subprocess.Popen(
        [sys.executable, "-c", RUN, *flags_of(tmp_path, out), "--quiet", "--log_json", str(tmp_path / "log")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as after nohup, and for jobs of a script
    )
    try:
        while LOCK not in files.list_folder(out) or not list_shard_marks(out):
            assert running.poll() is None, "the run ended before it was at its shard"
            time.sleep(0.05)
        files.publish_bytes(f"{out}/{LOCK}", [b"another run's"])
        _, error = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 1
    assert error.count("\n") == 1 and error.startswith(f"beam_pipeline: --output {out}: another run has taken it over")
    assert json.loads((tmp_path / "log").read_text().splitlines()[-1])["event"] == "error"
    assert files.read_bytes(f"{out}/{LOCK}") == b"another run's"


def list_shard_marks(out: str) -> list[str]:
    """Return the marks of shards that were begun."""
    return [
        name for name in files.list_folder(f"{out}/{SHARDS_FOLDER}") if name.startswith(f"{files.TEMP_PREFIX}begun")
    ]


def test_a_remote_output_in_use_is_refused(bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with lock_output(f"{bucket}/out"):
        assert main(flags_of(tmp_path, f"{bucket}/out"), FakeHandler(), fake_prepare) == 2
        assert f"--output {bucket}/out: another run is writing to it (process {os.getpid()}" in capsys.readouterr().err
    assert main(flags_of(tmp_path, f"{bucket}/out"), FakeHandler(), fake_prepare) == 0
