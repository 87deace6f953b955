"""Choosing the runner, running the graph, watching it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineState

from beam_pipeline.dataflow.access import check_access
from beam_pipeline.dataflow.errors import describe_message
from beam_pipeline.dataflow.job import DataflowJob
from beam_pipeline.dataflow.machines import check_image, is_dataflow, use_one_process_a_machine
from beam_pipeline.preflight.job import Job
from beam_pipeline.process import Terminated
from beam_pipeline.progress.console import console
from beam_pipeline.progress.meter import BAR_SECONDS
from beam_pipeline.progress.run_progress import RunProgress
from beam_pipeline.progress.shard_counts import ShardCounts
from beam_pipeline.usage import UsageError
from transforms import shutdown
from transforms.beam_private import current_metrics, in_process_runner
from transforms.metrics import IMAGES_DETECTED, NAMESPACE, local_counts, reset_local_counts
from transforms.shards import IMAGES_FAILED, IMAGES_WRITTEN

_POLL_SECONDS = 1.0
_REMOTE_POLL_SECONDS = 5.0  # each poll is a request
_GRACE_SECONDS = 25.0
_WAKE_SECONDS = 0.2
_IMAGES = (IMAGES_DETECTED, IMAGES_WRITTEN, IMAGES_FAILED)


@dataclass(frozen=True)
class Run:
    """A pipeline that is still empty.

    Attributes:
        pipeline: with Beam's options.
        runner: its name, None for the in-process one.
        dataflow: the job on Dataflow that it will be, None for other runners.
    """

    pipeline: beam.Pipeline
    runner: str | None
    dataflow: DataflowJob | None = None


def new_run(flags: Sequence[str]) -> Run:
    """Make an empty pipeline with Beam's own flags.

    Raises:
        UsageError: the runner refuses the flags, or they choose a mode that loses data.
    """
    options = PipelineOptions(list(flags))
    runner = options.view_as(StandardOptions).runner or "DirectRunner"
    name = runner.rpartition(".")[2].lower()
    if name not in ("direct", "directrunner"):
        if is_dataflow(options):
            check_image(options)
            use_one_process_a_machine(options)
            check_access(options)
        try:
            pipeline = beam.Pipeline(runner=runner, options=options)
        except ValueError as error:
            raise UsageError(f"--runner {runner}: {error}") from error
        return Run(pipeline, runner, DataflowJob(pipeline) if is_dataflow(options) else None)
    if options.view_as(DirectOptions).direct_running_mode == "multi_threading":
        raise UsageError(
            "--direct_running_mode=multi_threading loses records in silence (Beam 2.77: 20,000 in, 19,303 out, "
            "status 0); leave the flag out: reading and computing use all cores as it is"
        )
    return Run(beam.Pipeline(runner=in_process_runner(), options=options), None)


def watch(run: Run, job: Job) -> float | None:
    """Run to the end, showing progress.

    Returns:
        Images a second, 0 where that is not known; None where the pipeline has not run: it was only submitted, or a
        template of it was written.

    Raises:
        RuntimeError: the pipeline did not end well.
    """
    reset_local_counts()
    result: Any = None
    dataflow = run.dataflow

    shards = ShardCounts(job) if run.runner and not dataflow else None

    def counts() -> Mapping[str, int]:
        if dataflow:
            return {} if job.config.no_wait else dataflow.counts()
        # Of outputs there are tasks, which have phases of their own.
        here = {name: count for name, count in local_counts().items() if name in _IMAGES}
        reported = here or (remote_counts(result) if result else {})
        return reported or (shards.counts() if shards else {})

    say = console().line
    what = "importing" if job.config.imports else "detecting"
    seconds = _REMOTE_POLL_SECONDS if run.runner else BAR_SECONDS
    with RunProgress(what, job.plan.num_images, job.done.images, counts, seconds) as progress:
        if dataflow:
            is_started = dataflow.submit(say)
            if is_started and not job.config.no_wait:
                dataflow.wait(say)
                return progress.images_per_second
            return None
        result = run.pipeline.run() if run.runner else _run_here(run.pipeline)
        while not PipelineState.is_terminal(result.state):
            time.sleep(_POLL_SECONDS)
    if result.state != PipelineState.DONE:
        raise RuntimeError(f"the runner ended in state {result.state}{_reason(result)}; see its log ({run.runner})")
    return progress.images_per_second


def _reason(result: Any) -> str:
    """Return what a runner says of a job that failed, in one line after a colon; nothing if it says nothing."""
    try:
        result.wait_until_finish()
    except Exception as error:  # Beam raises what the runner says
        return f": {describe_message(str(error))}"
    return ""


def _run_here(pipeline: beam.Pipeline) -> Any:
    """Run in a thread of its own, so that signals reach this one and not a step in mid-work.

    On SIGTERM, which precedes the end of a preempted machine by 30 seconds, the open shard is finished.
    """
    shutdown.reset()
    running = ThreadPoolExecutor(1).submit(pipeline.run)
    try:
        # Python handles a signal when this thread runs on, and the kernel may wake another one with it.
        while not running.done():
            wait([running], timeout=_WAKE_SECONDS)
        return running.result()
    except Terminated:
        deadline = time.monotonic() + _GRACE_SECONDS
        shutdown.request()
        wait([running], timeout=_GRACE_SECONDS)
        shutdown.wait_for_publishing(deadline - time.monotonic())
        raise


def remote_counts(result: Any) -> Mapping[str, int]:
    """Return the counters that a remote runner reports; none where it reports none while it works."""
    try:
        counters = current_metrics(result).query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    except Exception:  # a progress display must not end a run
        return {}
    return {counter.key.metric.name: counter.attempted or counter.committed or 0 for counter in counters}


def interrupted_message(run: Run, job: Job, what: str = "interrupted") -> str:
    """Say what a user who pressed Ctrl-C should know; cancel a job on Dataflow where that was asked for."""
    if run.dataflow:
        return f"beam_pipeline: {run.dataflow.interrupted(job.config.on_interrupt == 'cancel')}"
    if run.runner:
        return f"beam_pipeline: no longer watching; what {run.runner} has begun goes on there"
    return f"beam_pipeline: {what}; whole shards in {job.layout.shards} stay, run the same command again to go on"
