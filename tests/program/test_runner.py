"""What a runner is told beyond the user's own flags."""

from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions

from beam_pipeline.runner import one_process_a_machine


def told(*flags: str) -> tuple[list[str], int | None]:
    options = PipelineOptions(list(flags))
    one_process_a_machine(options)
    debug = options.view_as(DebugOptions)
    return debug.experiments, debug.number_of_worker_harness_threads


def test_dataflow_gets_one_process_and_so_one_network_a_machine() -> None:
    assert told() == (["no_use_multiple_sdk_containers"], 4)
    assert told("--experiments=use_runner_v2") == (["use_runner_v2", "no_use_multiple_sdk_containers"], 4)


@pytest.mark.parametrize("choice", ["use_multiple_sdk_containers", "no_use_multiple_sdk_containers"])
def test_the_users_own_choice_stands(choice: str) -> None:
    assert told(f"--experiments={choice}", "--number_of_worker_harness_threads=9") == ([choice], 9)
