"""The README's Dataflow command as it stands there, through bash: the job that reaches the service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2

from tests.conftest import ROOT, TINY_WEIGHTS
from tests.samples.buckets import upload, upload_folder
from tests.samples.dataflow_service import JOB_ID, serving_dataflow
from transforms import files

VALUES = {"BUCKET": "bucket", "PROJECT": "my-project", "REGION": "europe-west4", "IMAGE": "registry/features:1"}

STAMP = r"^[-0-9]{10} [:0-9]{8} "  # of a line in a log


def readme_command() -> str:
    """Take the command that submits the job out of the README, its capitals filled in."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## On Dataflow")[2]
    block = re.search(r"```\n(.*?)```", section, re.DOTALL)
    assert block
    docker, _, command = block[1].partition("\n")
    assert docker.startswith("docker build ") and command.startswith("python -m beam_pipeline ")
    for name, value in VALUES.items():
        command = re.sub(rf"\b{name}\b", value, command)
    return command.rstrip()


def test_the_command_of_the_readme_asks_for_what_it_says(bucket: str, corpus: Path) -> None:
    upload_folder(corpus, f"{bucket}/mscoco")
    upload(TINY_WEIGHTS, f"{bucket}/W.caffemodel")
    with serving_dataflow() as service:
        service.states = ["JOB_STATE_RUNNING", "JOB_STATE_FAILED"]
        service.messages = [("JOB_MESSAGE_ERROR", "Workflow failed. Causes: Quota 'NVIDIA_T4_GPUS' exceeded. Limit: 0")]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euc", f"{readme_command()} {' '.join(service.flags)}"],
            env={**os.environ, "PATH": path},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=250,
        )
    (job,) = service.jobs
    check_job(job)
    page = f"https://console.cloud.google.com/dataflow/jobs/europe-west4/{JOB_ID}?project=my-project"
    first, second, last = [line for line in done.stderr.splitlines() if not re.search(" images|starting: ", line)]
    assert re.sub(STAMP, "", first) == f"note: Dataflow job {JOB_ID} ({job['name']}): {page}"
    reason = "Workflow failed. Causes: Quota 'NVIDIA_T4_GPUS' exceeded. Limit: 0"
    assert re.sub(STAMP, "", second) == f"error of Dataflow: {reason}"
    assert last == (
        f"beam_pipeline: the run failed: Dataflow job {JOB_ID} ({job['name']}) is FAILED: {reason} ({page}); "
        "ask for more of that quota in the region, or lower --max_num_workers"
    )
    assert done.returncode == 1 and done.stdout == ""


def check_job(job: dict[str, Any]) -> None:
    """Check the machines of the job that arrived, and the GPU in the graph that was staged for it."""
    environment = job["environment"]
    assert "no_use_multiple_sdk_containers" in environment["experiments"]
    (pool,) = environment["workerPools"]
    assert (pool["machineType"], pool["diskSizeGb"], pool["numThreadsPerWorker"]) == ("n1-standard-8", 200, 4)
    # One environment with the GPU and one without, of the same image.
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [VALUES["IMAGE"]] * 2
    assert environment["tempStoragePrefix"].startswith(f"storage.googleapis.com/bucket/tmp/{job['name']}")
    options = environment["sdkPipelineOptions"]["options"]
    assert (options["project"], options["region"]) == ("my-project", "europe-west4")
    graph = beam_runner_api_pb2.Pipeline.FromString(files.read_bytes(options["pipelineUrl"]))
    hints = [dict(environment.resource_hints) for environment in graph.components.environments.values()]
    gpu = b"type:nvidia-tesla-t4;count:1;install-nvidia-driver:5xx"
    assert sorted(hints, key=len) == [{}, {common_urns.resource_hints.ACCELERATOR.urn: gpu}]
