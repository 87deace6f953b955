"""The machines that a job on Dataflow asks for: the GPU where the network is, and nowhere else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2

from beam_pipeline.dataflow.machines import use_one_process_a_machine
from beam_pipeline.flags.options import parse_args
from beam_pipeline.pipeline import build
from beam_pipeline.preflight.job import check
from beam_pipeline.usage import UsageError
from tests.conftest import TINY_WEIGHTS
from tests.samples.pinned import pin
from transforms.detection import RegionModelHandler

BASE = ("--images", "gs://b/photos", "--weights", "gs://b/w.caffemodel", "--output", "gs://b/out")
DATAFLOW = "--runner=DataflowRunner"
GPU = "type:nvidia-tesla-t4;count:1;install-nvidia-driver:5xx"
WHOLE_JOB = f"--dataflow_service_options=worker_accelerator={GPU}"
ALL_OUTPUTS = "tfrecord,captions,lmdb,tsv,negatives"
HINT = common_urns.resource_hints.ACCELERATOR.urn
ON_THE_GPU = ("LoadImages", "DetectRegions", "WriteShards")


def worker_options(*flags: str) -> tuple[list[str], int | None]:
    """Return the experiments and the threads a machine that Dataflow is asked for."""
    options = PipelineOptions(list(flags))
    use_one_process_a_machine(options)
    debug = options.view_as(DebugOptions)
    return debug.experiments, debug.number_of_worker_harness_threads


def test_dataflow_gets_one_process_and_so_one_network_a_machine() -> None:
    assert worker_options() == (["no_use_multiple_sdk_containers"], 4)
    assert worker_options("--experiments=use_runner_v2") == (["use_runner_v2", "no_use_multiple_sdk_containers"], 4)


@pytest.mark.parametrize("choice", ["use_multiple_sdk_containers", "no_use_multiple_sdk_containers"])
def test_the_users_own_choice_of_processes_and_threads_stands(choice: str) -> None:
    flags = (f"--experiments={choice}", "--number_of_worker_harness_threads=9")
    assert worker_options(*flags) == ([choice], 9)


def graph_of(corpus: Path, out: Path, *flags: str) -> beam_runner_api_pb2.Pipeline:
    argv = ["--corpus=gs://b/c", "--output=gs://b/out", "--weights", str(TINY_WEIGHTS), "--outputs", ALL_OUTPUTS]
    config = dataclasses.replace(parse_args([*argv, *flags])[0], corpus=str(corpus), output=str(out))
    job = check(config)
    pipeline = beam.Pipeline()
    build(pipeline, job, RegionModelHandler(pin(TINY_WEIGHTS), config.device, config.selection))
    return pipeline.to_runner_api()


def gpu_of_each_step(graph: beam_runner_api_pb2.Pipeline) -> dict[str, str]:
    """Return what accelerator each step of the graph asks for; steps without an environment run in the service."""
    environments = graph.components.environments
    return {
        step.unique_name: environments[step.environment_id].resource_hints.get(HINT, b"").decode()
        for step in graph.components.transforms.values()
        if not step.subtransforms and step.environment_id
    }


def test_the_accelerator_stands_where_the_network_is_and_nowhere_else(corpus: Path, tmp_path: Path) -> None:
    steps = gpu_of_each_step(graph_of(corpus, tmp_path / "out", DATAFLOW, "--accelerator", GPU))
    with_gpu = {name.split("/")[0] for name, gpu in steps.items() if gpu == GPU}
    without = {name.split("/")[0] for name, gpu in steps.items() if not gpu}
    assert with_gpu == set(ON_THE_GPU)
    assert {"ReadShardInputs", "AuditShards", "BuildExports", "WriteManifest"} <= without
    assert not without & set(ON_THE_GPU)


def test_the_steps_on_the_gpu_share_one_environment_so_that_pixels_stay_in_their_process(
    corpus: Path, tmp_path: Path
) -> None:
    graph = graph_of(corpus, tmp_path / "out", DATAFLOW, "--accelerator", GPU)
    environments = {
        step.environment_id
        for step in graph.components.transforms.values()
        if not step.subtransforms and step.unique_name.startswith(ON_THE_GPU)
    }
    assert len(environments) == 1
    assert sum(HINT in environment.resource_hints for environment in graph.components.environments.values()) == 1


@pytest.mark.parametrize("flags", [(), (DATAFLOW, WHOLE_JOB)])
def test_without_the_flag_no_step_asks_for_a_gpu_of_its_own(
    flags: tuple[str, ...], corpus: Path, tmp_path: Path
) -> None:
    assert set(gpu_of_each_step(graph_of(corpus, tmp_path / "out", *flags)).values()) == {""}


def test_every_export_starts_behind_a_reshuffle(corpus: Path, tmp_path: Path) -> None:
    graph = graph_of(corpus, tmp_path / "out")
    makers = {output: step for step in named(graph).values() for output in step.outputs.values()}
    (build_target,) = [step for name, step in named(graph).items() if name.startswith("BuildExports/BuildTarget")]
    (source,) = build_target.inputs.values()
    assert makers[source].unique_name.startswith("BuildExports/SpreadTargets")


def named(graph: beam_runner_api_pb2.Pipeline) -> dict[str, beam_runner_api_pb2.PTransform]:
    return {step.unique_name: step for step in graph.components.transforms.values() if not step.subtransforms}


@pytest.mark.parametrize(
    "flags",
    [("--accelerator", GPU), (WHOLE_JOB,), (f"--experiments=worker_accelerator={GPU}",)],
    ids=["hint", "a", "b"],
)
@pytest.mark.parametrize("device", [(), ("--device=auto",), ("--device=cuda",)], ids=["default", "auto", "cuda"])
def test_a_job_that_asks_for_a_gpu_never_falls_to_a_cpu(flags: tuple[str, ...], device: tuple[str, ...]) -> None:
    assert parse_args([*BASE, *device, DATAFLOW, *flags])[0].device == "cuda"


def test_a_job_without_a_gpu_keeps_its_device() -> None:
    assert parse_args([*BASE, DATAFLOW, "--experiments=a", "--dataflow_service_options=b"])[0].device == "auto"
    assert parse_args([*BASE, WHOLE_JOB])[0].device == "auto"  # another runner, which has no such machines


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([DATAFLOW, "--accelerator", GPU, WHOLE_JOB], "expected one of them; --accelerator pays for fewer GPUs"),
        ([DATAFLOW, "--accelerator", GPU, f"--resource_hints=accelerator={GPU}"], "expected one of them"),
        ([DATAFLOW, "--accelerator", GPU, "--flexrs_goal=COST_OPTIMIZED"], "--accelerator: FlexRS has no GPUs"),
        ([DATAFLOW, WHOLE_JOB, "--flexrs_goal=SPEED_OPTIMIZED"], "worker_accelerator: FlexRS has no GPUs"),
        ([DATAFLOW, WHOLE_JOB, "--device=cpu"], "--device cpu would leave the GPU unused; expected --device cuda"),
        ([DATAFLOW, "--accelerator", "type:nvidia-tesla-t4"], "keep the quotes, for a shell ends a command at an"),
        ([DATAFLOW, WHOLE_JOB.partition(";")[0]], "got 'type:nvidia-tesla-t4'; keep the quotes"),
        ([DATAFLOW, "--accelerator", "type:nvidia-l4;count:1"], "expected 'type:nvidia-tesla-t4;count:1;install"),
        (["--accelerator", GPU], "--accelerator: only Dataflow has that: expected --runner=DataflowRunner beside it"),
    ],
)
def test_what_excludes_a_gpu_is_wrong_use(flags: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_args([*BASE, *flags])
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("flag", ["--no_wait", "--on_interrupt=cancel", "--template_location=gs://b/t"])
@pytest.mark.parametrize("runner", [(), ("--runner=FlinkRunner",)], ids=["here", "flink"])
def test_what_only_dataflow_has_is_refused_on_other_runners(flag: str, runner: tuple[str, ...]) -> None:
    parse_args([*BASE, flag, DATAFLOW])
    with pytest.raises(UsageError, match="only Dataflow has that: expected --runner=DataflowRunner beside it"):
        parse_args([*BASE, flag, *runner])
