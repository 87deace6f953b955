"""Flags that only the job server of Flink or Spark knows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from beam_pipeline.flags import options
from beam_pipeline.flags.options import parse_args
from beam_pipeline.usage import UsageError
from tests.samples.job_server import serving_job_flags

BASE = ("--images", "gs://b/photos", "--weights", "gs://b/w", "--output", "gs://b/out", "--runner=PortableRunner")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with serving_job_flags() as address:
        yield f"--job_endpoint={address}"


def test_the_job_servers_own_flags_pass_through(endpoint: str) -> None:
    flags = ["--number_of_execution_retries=3", "--reuse_things", "--files_to_stage", "a", "--savepoint_path=p"]
    assert parse_args([*BASE, endpoint, *flags, "--parallelism=2"])[1][2:] == [*flags, "--parallelism=2"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--number_of_execution_retry=3", "unknown flag --number_of_execution_retry; did you mean --number_of_exec"),
        ("--number_of_execution_retries=x", "--number_of_execution_retries: expected a whole number, got 'x'"),
        ("--outptu=x", "unknown flag --outptu; did you mean --output?"),
        ("stray", "expected a flag, got 'stray'"),
    ],
)
def test_what_the_job_server_does_not_know_is_refused(endpoint: str, flag: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_args([*BASE, endpoint, flag])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--job_endpoint=localhost:1"], "no answer in 0.1 seconds"),
        ([], "You must specify a --job_endpoint"),
        (["--runner=FlinkRunner", "--flink_job_server_jar=/no/such.jar"], 'Unable to parse jar URL "/no/such.jar"'),
        (["--runner=NoSuchRunner"], "Unexpected pipeline runner"),
    ],
)
def test_a_job_server_that_cannot_be_asked_is_one_line(
    flags: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "_JOB_SERVER_SECONDS", 0.1)
    with pytest.raises(UsageError) as caught:
        parse_args([*BASE, *flags, "--number_of_execution_retries=3"])
    message = str(caught.value)
    assert message.startswith(
        "unknown flag --number_of_execution_retries, and the job server that may know it cannot be asked: " + reason
    )
    assert "\n" not in message


@pytest.mark.parametrize("runner", ["PrismRunner", "DirectRunner"])
def test_a_runner_without_such_flags_is_not_asked(runner: str) -> None:
    with pytest.raises(UsageError, match="unknown flag --number_of_execution_retries; see --help"):
        parse_args([*BASE, f"--runner={runner}", "--number_of_execution_retries=3"])
