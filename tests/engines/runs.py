"""Runs of the program on an engine, with workers that are killed, compared byte for byte with a default run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support.kill_places import REPEATABLE
from region_features.records.stats import STATS_SUFFIX
from tests.conftest import ROOT, TINY_WEIGHTS

_SECONDS = 900.0
_POLL_SECONDS = 0.02


class RunError(Exception):
    """A run did not end as it should; one line, and where its messages are."""


@dataclass(frozen=True)
class Corpus:
    """Images, and the flags with which all runs on them are made.

    Attributes:
        folder: in COCO's layout.
        shards: how many shards its images make.
        flags: of every run.
    """

    folder: Path
    shards: int
    flags: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.folder.name


@contextlib.contextmanager
def running(corpus: Corpus, output: Path, beam_flags: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the program with every output until the block ends; its messages go to `OUTPUT.log`."""
    flags = ["--corpus", str(corpus.folder), "--weights", str(TINY_WEIGHTS), "--output", str(output)]
    flags += ["--outputs", REPEATABLE, "--negatives_pool", "4", "--device", "cpu", *corpus.flags]
    command = [sys.executable, "-m", "beam_pipeline", *flags, *beam_flags]
    with _process(command, Path(f"{output}.log")) as process:
        yield process


def run(corpus: Corpus, output: Path, beam_flags: Sequence[str]) -> None:
    """Run the program to its end.

    Raises:
        RunError: it failed.
    """
    with running(corpus, output, beam_flags) as process:
        if status := process.wait(_SECONDS):
            raise RunError(f"expected status 0, got {status}; see {output}.log")


@contextlib.contextmanager
def job_server(command: Sequence[str], port_flag: str, log: Path) -> Iterator[list[str]]:
    """Serve the jobs of an engine; yields the flags of a run there, whose workers are in the submitting process."""
    port = _free_port()
    with _process([*command, f"{port_flag}={port}"], log) as server:
        _wait_for(lambda: _answers(port), server, f"the engine did not start; see {log}")
        yield ["--runner=PortableRunner", f"--job_endpoint=localhost:{port}", "--environment_type=LOOPBACK"]


@contextlib.contextmanager
def worker_pool(log: Path) -> Iterator[tuple[int, list[str]]]:
    """Serve Beam's EXTERNAL environment: a process that starts workers. Yields its id, and the flags of a run on it."""
    port = _free_port()
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    with _process(command, log) as pool:
        _wait_for(lambda: _answers(port), pool, f"the worker pool did not start; see {log}")
        yield pool.pid, ["--environment_type=EXTERNAL", f"--environment_config=localhost:{port}"]


@contextlib.contextmanager
def _process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command, and end it with all that it has started when the block ends."""
    # The pool starts `python`, whichever the PATH names first.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    variables = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    with open(log, "ab") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def kill_after_first_shard(process: subprocess.Popen[bytes], output: Path, pool: int) -> None:
    """Kill a pool's workers, as the system does, once the first shard of a run is whole.

    Raises:
        RunError: the run came to its end before.
    """
    _wait_for(lambda: whole_shards(output) > 0, process, f"no shard became whole; see {output}.log")
    workers = children(pool)
    if not workers:
        raise RunError(f"found no worker to kill; see {output}.log")
    for worker in workers:
        os.kill(worker, signal.SIGKILL)


def whole_shards(output: Path) -> int:
    """Count the shards of an output that are whole."""
    return len(list((output / "tfrecord").glob(f"*{STATS_SUFFIX}")))


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    lines = subprocess.run(["ps", "-o", "pid=,stat=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    rows = [line.split() for line in lines.stdout.splitlines()]
    return [int(child) for child, state in rows if not state.startswith("Z")]


def difference(output: Path, expected: Path) -> list[str]:
    """Name the files, unfinished ones included, that only one of two outputs has or that differ."""
    found, wanted = _digests(output), _digests(expected)
    return sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))


def check_same(output: Path, expected: Path) -> None:
    """Compare an output with that of a default run, and delete it.

    Raises:
        RunError: they differ.
    """
    if names := difference(output, expected):
        raise RunError(f"{output} differs from {expected}: {', '.join(names)}")
    shutil.rmtree(output)
    for log in output.parent.glob(f"{output.name}.*log"):
        log.unlink()


def _digests(folder: Path) -> Mapping[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
        return True
    return False


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], problem: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RunError(problem)
        time.sleep(_POLL_SECONDS)
