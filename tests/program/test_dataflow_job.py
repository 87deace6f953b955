"""A job on Dataflow from its submission to its end: what its user sees, against a stand-in for the service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.dataflow import job as dataflow_job
from beam_pipeline.dataflow import patience
from beam_pipeline.dataflow.errors import JobError
from beam_pipeline.dataflow.job import DataflowJob
from tests.samples.dataflow_service import JOB_ID, DataflowService, serving_dataflow

PAGE = f"https://console.cloud.google.com/dataflow/jobs/europe-west4/{JOB_ID}?project=p"
CANCEL = f"gcloud dataflow jobs cancel {JOB_ID} --region=europe-west4 --project=p"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for milliseconds where a user waits for seconds."""
    monkeypatch.setattr(dataflow_job, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(dataflow_job, "REASON_SECONDS", 0.05)
    monkeypatch.setattr(patience, "_FIRST_PAUSE", 0.01)


@pytest.fixture
def service() -> Iterator[DataflowService]:
    with serving_dataflow() as running:
        yield running


def new_job(tmp_path: Path, endpoint: str, *flags: str) -> DataflowJob:
    """Make a job of one step, staged in a local folder."""
    places = ["--project=p", "--region=europe-west4", f"--temp_location={tmp_path}", "--job_name=daily"]
    image = ["--sdk_container_image=image", "--sdk_location=container"]
    quick = "--experiments=disable_logging_submission_environment"
    to = [f"--dataflow_endpoint={endpoint}", "--no_auth", quick]
    pipeline = beam.Pipeline(runner="DataflowRunner", options=PipelineOptions([*places, *image, *to, *flags]))
    _ = pipeline | beam.Create([1])
    return DataflowJob(pipeline)


@pytest.fixture
def job(tmp_path: Path, service: DataflowService) -> DataflowJob:
    return new_job(tmp_path, service.base)


def run_to_its_end(job: DataflowJob) -> tuple[list[str], JobError | None]:
    """Submit and watch; return the lines that were said, and how it failed."""
    lines: list[str] = []
    try:
        assert job.submit(lines.append)
        job.wait(lines.append)
    except JobError as error:
        assert error.__cause__ is None and "\n" not in str(error)
        return lines, error
    return lines, None


def test_a_job_is_named_at_once_and_watched_to_its_end(service: DataflowService, job: DataflowJob) -> None:
    service.states = ["JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_RUNNING", "JOB_STATE_DONE"]
    lines: list[str] = []
    assert job.submit(lines.append)
    assert lines == [f"note: Dataflow job {JOB_ID} (daily): {PAGE}"]
    job.wait(lines.append)
    assert len(lines) == 1 and service.states == ["JOB_STATE_DONE"]


def test_a_job_without_a_name_gets_ours(tmp_path: Path, service: DataflowService) -> None:
    assert new_job(tmp_path, service.base, "--job_name=").submit(lambda _: None)
    assert service.jobs[0]["name"].startswith("region-features-20")


def test_the_errors_of_workers_are_one_line_each(service: DataflowService, job: DataflowJob) -> None:
    stack = (
        "Error message from worker: generic::unknown: Traceback (most recent call last):\n"
        '  File "a.py", line 1, in process\n    raise ValueError\nValueError: bad\n\nDuring handling of it:\n\n'
        "Traceback (most recent call last):\n"
        '  File "b.py", line 2, in load_model\n    raise ValueError(\n'
        "ModuleNotFoundError: No module named 'detectron2' [while running 'DetectRegions-ptransform-7']\n"
    )
    attempts = (
        "Workflow failed. Causes: a work item has failed 4 times.\nThe work item was attempted on these workers: w"
    )
    service.messages = [
        ("JOB_MESSAGE_BASIC", "Worker configuration: n1-standard-8"),
        ("JOB_MESSAGE_WARNING", "A slow\nworker"),
        *[("JOB_MESSAGE_ERROR", stack)] * 4,
        ("JOB_MESSAGE_ERROR", attempts),
    ]
    service.states = ["JOB_STATE_RUNNING", "JOB_STATE_RUNNING", "JOB_STATE_FAILED"]
    lines, error = run_to_its_end(job)
    reason = "ModuleNotFoundError: No module named 'detectron2' [while running 'DetectRegions-ptransform-7']"
    assert lines[1:] == [
        "warning of Dataflow: A slow worker",
        f"error of Dataflow: {reason}",
        f"error of Dataflow: {' '.join(attempts.split())}",
    ]
    assert str(error) == f"Dataflow job {JOB_ID} (daily) is FAILED: {reason} ({PAGE})"
    assert error and error.remedy == "check that --sdk_container_image was built from this version's Dockerfile"


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "DRAINED", "UPDATED"])
def test_a_job_that_does_not_end_well_says_what_the_service_said(
    state: str, service: DataflowService, job: DataflowJob
) -> None:
    service.states = ["JOB_STATE_RUNNING", f"JOB_STATE_{state}"]
    service.messages = [("JOB_MESSAGE_ERROR", "it was somebody's wish")]
    _, error = run_to_its_end(job)
    assert f"is {state}: it was somebody's wish (" in str(error)
    assert error and error.remedy == "run the same command again to go on"


def test_a_cancelled_job_says_what_the_service_said_of_it(service: DataflowService, job: DataflowJob) -> None:
    service.states = ["JOB_STATE_RUNNING", "JOB_STATE_CANCELLED"]
    service.messages = [
        ("JOB_MESSAGE_BASIC", "Cancel request is committed for workflow job: 1."),
        ("JOB_MESSAGE_BASIC", "Worker pool stopped."),
    ]
    lines, error = run_to_its_end(job)
    assert len(lines) == 1
    assert "is CANCELLED: Cancel request is committed for workflow job: 1. (" in str(error)


def test_a_failure_without_a_message_says_so(service: DataflowService, job: DataflowJob) -> None:
    service.states = ["JOB_STATE_FAILED"]
    assert "is FAILED: the service gave no reason" in str(run_to_its_end(job)[1])


def test_progress_is_that_of_the_jobs_counters(service: DataflowService, job: DataflowJob) -> None:
    service.counters = {"images_written": 40, "images_failed": 2, "lmdb_records_written": 7, "num_inferences": 9}
    assert job.counts() == {}
    assert job.submit(lambda _: None)
    assert job.counts() == {"images_written": 40, "images_failed": 2, "lmdb_records_written": 7}
    service.refusals = [("/metrics", 503)]
    assert job.counts() == {}


@pytest.mark.parametrize("status", [503, 429, 500])
def test_a_busy_service_is_asked_again(status: int, service: DataflowService, job: DataflowJob) -> None:
    service.refusals = [("POST", status)] * 3 + [("GET", status)] * 3 + [("/messages", status)]
    lines, error = run_to_its_end(job)
    assert error is None and len(lines) == 1
    assert len(service.jobs) == 1 and service.refusals == []


@pytest.mark.parametrize(
    ("status", "words", "remedy"),
    [
        (401, "401 the service asks for credentials", "log in again: gcloud auth application-default login"),
        (403, "the fake says 403", "grant the missing role; docs/deploy.md lists all"),
        (404, "the fake says 404", "check --project, --region and whether the Dataflow API is enabled"),
    ],
)
def test_a_refusal_ends_the_submission_at_once(
    status: int, words: str, remedy: str, service: DataflowService, job: DataflowJob, caplog: pytest.LogCaptureFixture
) -> None:
    service.refusals = [("POST", status)] * 2
    lines, error = run_to_its_end(job)
    assert str(error).startswith(f"cannot submit the job: {status} ") and words in str(error)
    assert error and error.remedy == remedy
    assert lines == [] and len(service.log) == 1 and caplog.messages == []


def test_a_refusal_while_watching_says_that_the_job_goes_on(service: DataflowService, job: DataflowJob) -> None:
    service.refusals = [("GET", 401)]
    _, error = run_to_its_end(job)
    assert str(error).startswith(f"no longer watching Dataflow job {JOB_ID} (daily), which goes on: 401 ")


def test_a_job_that_is_not_known_yet_is_asked_for_again(service: DataflowService, job: DataflowJob) -> None:
    service.refusals = [("GET", 404)] * 2
    assert run_to_its_end(job)[1] is None


def test_an_endpoint_that_is_not_there_ends_within_seconds(tmp_path: Path) -> None:
    job = new_job(tmp_path, "http://localhost:9")
    began = time.monotonic()
    _, error = run_to_its_end(job)
    assert "cannot submit the job: ConnectionError" in str(error)
    assert time.monotonic() - began < 30  # the promise to the user, not a measurement


def test_a_template_is_written_and_no_job_started(tmp_path: Path, service: DataflowService) -> None:
    template = tmp_path / "template.json"
    lines: list[str] = []
    assert not new_job(tmp_path, service.base, f"--template_location={template}").submit(lines.append)
    assert lines == [f"note: wrote the template {template}; no job was started"]
    assert service.log == [] and "workerPools" in template.read_text()


def test_an_interrupt_leaves_the_job_and_says_how_to_cancel_it(service: DataflowService, job: DataflowJob) -> None:
    assert "jobs list --region=europe-west4 --project=p" in job.interrupted(cancel=True)
    assert job.submit(lambda _: None)
    said = job.interrupted(cancel=False)
    assert said == f"no longer watching; Dataflow job {JOB_ID} (daily) goes on. To cancel it: {CANCEL}"
    assert service.updates == []


def test_an_interrupt_cancels_the_job_where_that_was_asked_for(service: DataflowService, job: DataflowJob) -> None:
    assert job.submit(lambda _: None)
    service.refusals = [("PUT", 503)]
    assert "is being cancelled" in job.interrupted(cancel=True)
    assert [update["requestedState"] for update in service.updates] == [5]  # JOB_STATE_CANCELLED
    service.refusals = [("PUT", 403)]
    said = job.interrupted(cancel=True)
    assert "could not be cancelled (403 " in said and said.endswith(CANCEL)


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_waiting_for_a_service_is_said_once_after_thirty_seconds_and_ends() -> None:
    from google.api_core.exceptions import ServiceUnavailable

    clock, said = Clock(), list[tuple[float, str]]()

    def request() -> None:
        raise ServiceUnavailable("busy")

    waiting = patience.Patience(
        "the service", 100.0, 15.0, lambda line: said.append((clock.now, line)), (), clock, clock.sleep
    )
    with pytest.raises(ServiceUnavailable):
        waiting.call(request)
    ((when, line),) = said
    assert 30 <= when < 45 and 80 < clock.now <= 100
    assert line.startswith("note: the service has not answered for ") and "(503 busy); asking on" in line
