"""The machines that a job on Dataflow asks for: one process on each, and the GPU where the network is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from beam_pipeline.flags.config import Config
from beam_pipeline.usage import UsageError

_ONE_PROCESS = "no_use_multiple_sdk_containers"
# Shards that a machine works on at a time: while one is at the network, others are read and written.
_WORKER_THREADS = 4
_WHOLE_MACHINE = "worker_accelerator="
# What asks for a GPU, as a regular expression.
GPU = r"type:[\w-]+;count:\d+;(machine_type:[\w-]+;)?install-nvidia-driver(:\w+)?"
_EXAMPLE = "'type:nvidia-tesla-t4;count:1;install-nvidia-driver:5xx'"


def is_dataflow(options: PipelineOptions) -> bool:
    """Return whether a job goes to Dataflow."""
    return (options.view_as(StandardOptions).runner or "").rpartition(".")[2].lower() == "dataflowrunner"


def check_runner(config: Config, beam_flags: Sequence[str]) -> None:
    """Refuse flags of Dataflow's jobs on another runner, which would pass over them in silence.

    Raises:
        UsageError: names the flag.
    """
    options = PipelineOptions(list(beam_flags))
    asked = {
        "--accelerator": config.accelerator,
        "--no_wait": config.no_wait,
        "--on_interrupt cancel": config.on_interrupt == "cancel",
        "--template_location": options.view_as(GoogleCloudOptions).template_location,
    }
    for flag, value in asked.items():
        if value and not is_dataflow(options):
            raise UsageError(f"{flag}: only Dataflow has that: expected --runner=DataflowRunner beside it")


def use_one_process_a_machine(options: PipelineOptions) -> None:
    """Have Dataflow start one process a machine; its default is one a core, each of which would load the network.

    The user's own choice stands.
    """
    debug = options.view_as(DebugOptions)
    if not any(debug.lookup_experiment(name) for name in (_ONE_PROCESS, _ONE_PROCESS.removeprefix("no_"))):
        debug.add_experiment(_ONE_PROCESS)
    if debug.number_of_worker_harness_threads is None:
        debug.number_of_worker_harness_threads = _WORKER_THREADS


def check_image(options: PipelineOptions) -> None:
    """Refuse a job whose machines would get Beam's own image, without this program and torch.

    Raises:
        UsageError: names the flag.
    """
    setup = options.view_as(SetupOptions)
    brings_packages = setup.setup_file or setup.requirements_file or setup.extra_packages
    if not options.view_as(WorkerOptions).sdk_container_image and not brings_packages:
        raise UsageError("--sdk_container_image=IMAGE is missing: Dataflow's machines need the image of the Dockerfile")


def use_the_gpu(config: Config, beam_flags: Sequence[str]) -> Config:
    """Have the network run on the GPU that a job asks for: on a machine without one it fails, it is never slow.

    Raises:
        UsageError: the flags contradict each other, or what they ask for is cut off.
    """
    options = PipelineOptions(list(beam_flags))
    requests = list(_requested_gpus(config, options))
    if not is_dataflow(options) or not requests:
        return config
    flag, gpu = requests[0]
    if len(requests) > 1:
        raise UsageError(f"{flag} and {requests[1][0]}: expected one of them; --accelerator pays for fewer GPUs")
    if not re.fullmatch(GPU, gpu):
        raise UsageError(
            f"{flag}: expected {_EXAMPLE}, got {gpu!r}; keep the quotes, for a shell ends a command at an unquoted ;"
        )
    if options.view_as(GoogleCloudOptions).flexrs_goal:
        raise UsageError(f"{flag}: FlexRS has no GPUs: expected no --flexrs_goal beside it")
    if config.device == "cpu":
        raise UsageError(f"{flag}: --device cpu would leave the GPU unused; expected --device cuda")
    return replace(config, device="cuda")


def _requested_gpus(config: Config, options: PipelineOptions) -> Iterator[tuple[str, str]]:
    """Yield each flag that asks for a GPU, and what it asks for."""
    if config.accelerator:
        yield "--accelerator", config.accelerator
    for flag, texts in (
        ("--dataflow_service_options", options.view_as(GoogleCloudOptions).dataflow_service_options),
        ("--experiments", options.view_as(DebugOptions).experiments),
    ):
        for text in texts or ():
            if text.startswith(_WHOLE_MACHINE):
                yield f"{flag}={_WHOLE_MACHINE[:-1]}", text.removeprefix(_WHOLE_MACHINE)
    for text in options.view_as(StandardOptions).resource_hints:
        name, _, gpu = text.partition("=")
        if name == "accelerator":
            yield "--resource_hints=accelerator", gpu
