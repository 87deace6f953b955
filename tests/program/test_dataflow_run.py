"""The graph that is sent to Dataflow, run from the staged file: the same bytes as a local run."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.portability.python_urns import EMBEDDED_PYTHON
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipeline import pipeline
from beam_pipeline.dataflow import job as dataflow_job
from beam_pipeline.pipeline import main
from tests.conftest import TINY_WEIGHTS, tree_bytes
from tests.samples.buckets import download, upload, upload_folder
from tests.samples.dataflow_service import DataflowService, serving_dataflow
from tests.samples.fakes import FakeHandler, fake_prepare
from transforms import files

# What does not name the folders of its run.
SAME_BYTES = (".tfrecord", ".mdb", ".tsv", ".npz", ".pkl", "ann.jsonl")


def dataflow_flags(service: DataflowService, bucket: str) -> list[str]:
    places = ["--project=my-project", "--region=europe-west4", f"--temp_location={bucket}/tmp"]
    image = ["--sdk_container_image=registry/features:1", "--sdk_location=container"]
    # Beam would list the installed packages for seven seconds.
    quick = "--experiments=disable_logging_submission_environment"
    return ["--runner=DataflowRunner", *places, *image, quick, *service.flags]


def run_staged(job: dict[str, Any]) -> None:
    """Run a job's staged graph in this process, as the service would on its machines."""
    staged = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
    graph = beam_runner_api_pb2.Pipeline.FromString(files.read_bytes(staged))
    for environment in graph.components.environments.values():
        environment.urn, environment.payload = EMBEDDED_PYTHON, b""
    FnApiRunner().run_via_runner_api(graph, PipelineOptions([])).wait_until_finish()


def place_inputs(corpus: Path, bucket: str) -> list[str]:
    """Upload a corpus and weights; return the flags that name them and an output."""
    upload_folder(corpus, f"{bucket}/mscoco")
    upload(TINY_WEIGHTS, f"{bucket}/w.caffemodel")
    return ["--corpus", f"{bucket}/mscoco", "--weights", f"{bucket}/w.caffemodel", "--output", f"{bucket}/out"]


def test_the_staged_graph_writes_what_a_local_run_writes(
    bucket: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dataflow_job, "POLL_SECONDS", 0.01)
    remote = place_inputs(corpus, bucket)
    flags = ["--num_shards", "2", "--outputs", "tfrecord,captions,lmdb,tsv,negatives", "--negatives_pool", "3"]
    with serving_dataflow() as service:
        service.on_create = run_staged
        assert main([*remote, *flags, *dataflow_flags(service, bucket)], FakeHandler(), fake_prepare) == 0
    assert len(service.jobs) == 1
    assert "5 of 5 images" in capsys.readouterr().out
    local = ["--corpus", str(corpus), "--weights", str(TINY_WEIGHTS), "--output", str(tmp_path / "out")]
    assert main([*local, *flags], FakeHandler(), fake_prepare) == 0
    remote_files, local_files = download(f"{bucket}/out"), tree_bytes(tmp_path / "out")
    compared = [
        name for name in local_files if name.endswith((".tfrecord", ".mdb", ".tsv", ".npz", ".pkl", "_ann.jsonl"))
    ]
    assert sorted(remote_files) == sorted(local_files)
    assert {Path(name).suffix for name in compared} == {".tfrecord", ".mdb", ".tsv", ".npz", ".pkl", ".jsonl"}
    for name in compared:
        assert remote_files[name] == local_files[name]


@pytest.mark.parametrize("flag", ["--no_wait", "--template_location"])
def test_a_submission_that_is_not_waited_for_ends_well(
    flag: str, bucket: str, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remote = place_inputs(corpus, bucket)
    template = f"{bucket}/templates/daily"
    with serving_dataflow() as service:
        own = [flag] if flag == "--no_wait" else [flag, template]
        assert main([*remote, *own, *dataflow_flags(service, bucket)], FakeHandler(), fake_prepare) == 0
    said = capsys.readouterr()
    assert said.out == ""
    if flag == "--no_wait":
        assert len(service.jobs) == 1 and len(service.log) == 1
        assert "note: Dataflow job " in said.err
    else:
        assert service.log == []
        assert f"note: wrote the template {template}; no job was started" in said.err
        assert b"pipelineUrl" in files.read_bytes(template)
    # The plan and what the job needs besides, until a run ends.
    assert sorted(download(f"{bucket}/out")) == [
        ".tmp-images.jsonl",
        ".tmp-provenance.json",
        ".tmp-shards.jsonl",
        "plan.jsonl",
    ]


@pytest.mark.parametrize(("choice", "updates"), [("leave", 0), ("cancel", 1)])
def test_ctrl_c_leaves_or_cancels_the_job(
    choice: str, updates: int, bucket: str, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    class Ended(BaseException):
        pass

    def end(status: int, message: str) -> None:
        raise Ended(status, message)

    remote = place_inputs(corpus, bucket)
    clock = SimpleNamespace(sleep=interrupt, strftime=time.strftime, gmtime=time.gmtime)
    monkeypatch.setattr(dataflow_job, "time", clock)
    monkeypatch.setattr(pipeline, "end", end)
    with serving_dataflow() as service, pytest.raises(Ended) as ended:
        flags = [f"--on_interrupt={choice}", *dataflow_flags(service, bucket)]
        pipeline.main([*remote, *flags], FakeHandler(), fake_prepare)
    status, message = ended.value.args
    assert (
        status == 130
        and message.startswith("beam_pipeline: ")
        and ("gcloud dataflow jobs cancel" in message) == (choice == "leave")
    )
    assert len(service.updates) == updates
    # The output is free for another run.
    assert not [name for name in download(f"{bucket}/out") if "lock" in name]
