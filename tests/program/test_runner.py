"""Choice of the runner, watching a run to its end, and whose fault an error is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import DebugOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipeline import runner
from beam_pipeline.preflight.job import Done
from beam_pipeline.progress.shard_counts import ShardCounts
from beam_pipeline.runner import Run, interrupted_message, new_run, remote_counts, watch
from beam_pipeline.usage import UsageError
from region_features.records.failure import Failure
from region_features.records.plan import ShardKey
from region_features.records.stats import STATS_SUFFIX, ShardStats
from transforms.metrics import count, local_counts, reset_local_counts

JOB: Any = SimpleNamespace(
    plan=SimpleNamespace(num_images=10, shards=()),
    done=Done(0, 0, 0, 0, 0),
    config=SimpleNamespace(imports=False),
    layout=SimpleNamespace(shards="out/tfrecord"),
)
REMOTE = "FlinkRunner"


@pytest.mark.parametrize(
    "flags", [(), ("--runner=DirectRunner",), ("--runner=direct",), ("--direct_running_mode=multi_processing",)]
)
def test_a_local_run_uses_beams_in_process_runner(flags: tuple[str, ...]) -> None:
    run = new_run(flags)
    assert run.runner is None and isinstance(run.pipeline.runner, FnApiRunner)


def test_another_runner_is_the_one_that_the_user_named() -> None:
    run = new_run(["--runner=FlinkRunner"])
    assert run.runner == "FlinkRunner" and type(run.pipeline.runner).__name__ == "FlinkRunner"
    assert "no_use_multiple_sdk_containers" not in run.pipeline.options.view_as(DebugOptions).experiments


def test_a_run_on_dataflow_asks_for_one_process_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    # Beam's own Pipeline would ask Google for the buckets.
    monkeypatch.setattr(beam, "Pipeline", SimpleNamespace)
    run: Any = new_run(["--runner=DataflowRunner", "--project=p", "--no_auth", "--sdk_container_image=i"])
    assert run.runner == run.pipeline.runner == "DataflowRunner" and run.dataflow
    assert run.pipeline.options.view_as(DebugOptions).experiments == ["no_use_multiple_sdk_containers"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--runner=NoSuchRunner"], "Unexpected pipeline runner"),
        (["--runner=DataflowRunner", "--no_auth", "--sdk_container_image=i"], "Missing required option: project"),
        (["--runner=DataflowRunner"], "--sdk_container_image=IMAGE is missing"),
        (["--direct_running_mode=multi_threading"], "loses records in silence"),
    ],
)
def test_flags_that_a_runner_refuses_are_wrong_use(flags: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        new_run(flags)


class FakeResult:
    """A result whose state goes on each time it is asked for, and whose metrics are these."""

    def __init__(self, *states: str, metrics: Callable[[], Any] = dict) -> None:
        self._states = list(states)
        self.metrics = metrics

    @property
    def state(self) -> str:
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]

    def wait_until_finish(self) -> None:
        """Return at once; Beam's own raise what the runner says of a job that failed."""


def fake_run(name: str | None, result: Any, during: Callable[[], object] = lambda: None) -> Run:
    """Make a run that calls `during` while it starts and returns the result, or raises it."""

    def run() -> Any:
        during()
        if isinstance(result, Exception):
            raise result
        return result

    pipeline: Any = SimpleNamespace(run=run)
    return Run(pipeline, name)


def metrics_of(**counts: int) -> Callable[[], Any]:
    """Stand in for a runner that reports these counters, some only as attempted."""

    def counter(name: str, value: int) -> Any:
        key = SimpleNamespace(metric=SimpleNamespace(name=name))
        return SimpleNamespace(key=key, attempted=value if value % 2 else None, committed=value)

    counters = [counter(name, value) for name, value in counts.items()]
    return lambda: SimpleNamespace(query=lambda _: {"counters": counters})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Poll often, and leave no counts to other tests."""
    monkeypatch.setattr(runner, "_POLL_SECONDS", 0.001)
    yield
    reset_local_counts()


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Mapping[str, int]]]:
    """The function from which the progress display reads its counts."""
    functions: list[Callable[[], Mapping[str, int]]] = []

    class Display:
        images_per_second = 0.0

        def __init__(self, what: str, total: int, done: int, counts: Any, seconds: float) -> None:
            functions.append(counts)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(runner, "RunProgress", Display)
    return functions


@pytest.mark.parametrize("name", [None, REMOTE])
def test_a_run_is_watched_until_it_is_done(name: str | None) -> None:
    result = FakeResult("RUNNING", "RUNNING", "DONE")
    watch(fake_run(name, result), JOB)
    assert result.state == "DONE"


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "DRAINED"])
def test_a_run_that_does_not_end_well_is_an_error_with_its_state(state: str) -> None:
    with pytest.raises(RuntimeError, match=f"ended in state {state}; see its log"):
        watch(fake_run(REMOTE, FakeResult("RUNNING", state)), JOB)


def test_a_run_that_fails_says_what_the_runner_says() -> None:
    class Failed(FakeResult):
        def wait_until_finish(self) -> None:
            stack = "Traceback (most recent call last)\n  File 'x.py'\nValueError: a step"
            raise RuntimeError(f"Pipeline job_1 failed in state FAILED: java.lang.RuntimeException: {stack}")

    with pytest.raises(RuntimeError, match=f"ended in state FAILED: ValueError: a step; see its log .{REMOTE}"):
        watch(fake_run(REMOTE, Failed("FAILED")), JOB)


@pytest.mark.parametrize("name", [None, REMOTE])
def test_what_a_run_raises_is_raised_to_its_watcher(name: str | None) -> None:
    with pytest.raises(KeyError, match="a step"):
        watch(fake_run(name, KeyError("a step")), JOB)


@pytest.mark.parametrize(("name", "in_this_thread"), [(None, False), (REMOTE, True)])
def test_only_a_local_run_works_in_a_thread_of_its_own(name: str | None, in_this_thread: bool) -> None:
    threads: list[threading.Thread] = []
    watch(fake_run(name, FakeResult("DONE"), lambda: threads.append(threading.current_thread())), JOB)
    assert [thread is threading.current_thread() for thread in threads] == [in_this_thread]


def test_the_counts_of_an_earlier_run_in_this_process_are_dropped() -> None:
    count("images_written", 7)
    watch(fake_run(None, FakeResult("DONE"), lambda: count("images_written", 2)), JOB)
    assert local_counts() == {"images_written": 2}


def test_the_display_shows_a_runners_counts_where_this_process_has_none(
    shown: list[Callable[[], Mapping[str, int]]],
) -> None:
    at_the_start: list[Mapping[str, int]] = []
    result = FakeResult("DONE", metrics=metrics_of(images_written=5))
    watch(fake_run(REMOTE, result, lambda: at_the_start.append(shown[0]())), JOB)
    assert at_the_start == [{}] and shown[0]() == {"images_written": 5}
    count("images_written", 3)
    assert shown[0]() == {"images_written": 3}


def test_a_runners_counters_are_read_by_name() -> None:
    result = FakeResult("RUNNING", metrics=metrics_of(images_written=5, images_failed=2, images_read=0))
    assert remote_counts(result) == {"images_written": 5, "images_failed": 2, "images_read": 0}


def test_beams_own_result_gives_the_counters_of_the_steps() -> None:
    pipeline = new_run([]).pipeline
    pipeline | beam.Create([1, 2, 3]) | beam.Map(lambda number: count("images_read", number))
    result = pipeline.run()
    assert remote_counts(result) == {"images_read": 6}


def test_a_runner_without_metrics_gives_no_counts() -> None:
    def unavailable() -> Any:
        raise NotImplementedError("no metrics while the job runs")

    assert remote_counts(FakeResult("RUNNING", metrics=unavailable)) == {}


def test_counters_are_asked_for_anew_although_beam_keeps_the_first() -> None:
    class Kept(FakeResult):
        _metrics: Any = "the first"

    result = Kept("RUNNING", metrics=metrics_of(images_written=5))
    assert remote_counts(result) == {"images_written": 5} and result._metrics is None


def test_where_a_runner_reports_nothing_the_whole_shards_are_counted(tmp_path: Path) -> None:
    keys = [ShardKey("a", number, 3, 2) for number in range(3)]
    job: Any = SimpleNamespace(plan=SimpleNamespace(shards=keys), layout=SimpleNamespace(shards=str(tmp_path)))
    publish(tmp_path, keys[0])
    shards = ShardCounts(job)
    assert shards.counts() == {}  # the first was there before
    publish(tmp_path, keys[1], failures=(Failure("uri", "b", "decode", "broken"),))
    assert shards.counts() == {"images_written": 2, "images_failed": 1}
    (tmp_path / f"{keys[2].filename}{STATS_SUFFIX}").write_text("{")
    assert shards.counts() == {"images_written": 2, "images_failed": 1}
    publish(tmp_path, keys[2])
    assert shards.counts() == {"images_written": 4, "images_failed": 1}


def publish(folder: Path, key: ShardKey, failures: tuple[Failure, ...] = ()) -> None:
    stats = ShardStats(key.filename, {}, "", ("1", "2"), {}, failures, 0, 10, "", "")
    (folder / f"{key.filename}{STATS_SUFFIX}").write_bytes(stats.to_json())


def test_an_interrupted_user_learns_what_goes_on_and_what_stays() -> None:
    there = interrupted_message(fake_run(REMOTE, None), JOB)
    assert "what FlinkRunner has begun goes on there" in there
    here = interrupted_message(fake_run(None, None), JOB)
    assert "whole shards in out/tfrecord stay, run the same command again" in here
