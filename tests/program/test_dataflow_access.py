"""Credentials and buckets are tried before a job is built: what is missing is one line within seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google.auth
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError

from beam_pipeline.dataflow import access
from beam_pipeline.dataflow.access import check_access
from beam_pipeline.usage import UsageError
from tests.conftest import ROOT, TINY_WEIGHTS

ANONYMOUS = ("--no_auth", "--project=p")
PLACES = ("--region=r", "--temp_location=/tmp/t")


class Credentials:
    """Credentials whose refreshment raises this, or does nothing."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def refresh(self, _: object) -> None:
        if self._error:
            raise self._error


def refusal(flags: list[str]) -> str:
    with pytest.raises(UsageError) as caught:
        check_access(PipelineOptions(flags))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DefaultCredentialsError("none"), "no Google credentials on this machine; get some: gcloud auth"),
        (RefreshError("invalid_grant"), "Google refuses this machine's credentials: invalid_grant; get others"),
        (TransportError("no route"), "Google cannot be reached to check the credentials: no route; check the network"),
    ],
)
def test_credentials_that_cannot_be_used_are_wrong_use(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def default(scopes: object) -> tuple[Any, str]:
        if isinstance(error, DefaultCredentialsError):
            raise error
        return Credentials(error), "p"

    monkeypatch.setattr(google.auth, "default", default)
    assert message in refusal(["--project=p"])


def test_credentials_that_google_accepts_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google.auth, "default", lambda scopes: (Credentials(), "p"))
    check_access(PipelineOptions(["--project=p"]))


@pytest.mark.parametrize("address", ["http://localhost:9", "localhost:9", "https://nowhere.invalid", "https://h:port"])
def test_a_service_that_is_not_there_is_wrong_use(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "getproxies", dict)
    said = refusal([*ANONYMOUS, f"--dataflow_endpoint={address}"])
    assert said.startswith(f"--dataflow_endpoint {address}: nobody answers there (")
    monkeypatch.setattr(access, "getproxies", lambda: {"https": "proxy:1"})
    check_access(PipelineOptions([*ANONYMOUS, *PLACES, f"--dataflow_endpoint={address}"]))


@pytest.mark.parametrize("flag", ["--project", "--region", "--temp_location"])
def test_what_a_job_needs_is_asked_for_where_beam_does_not(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "getproxies", lambda: {"https": "proxy:1"})
    flags = [word for word in (*ANONYMOUS, *PLACES) if not word.startswith(flag)]
    assert refusal([*flags, "--dataflow_endpoint=http://localhost:9"]).startswith(f"{flag} is missing: ")


def test_a_bucket_that_is_there_passes_and_another_is_refused(bucket: str) -> None:
    check_access(PipelineOptions([*ANONYMOUS, f"--temp_location={bucket}/tmp"]))
    said = refusal([*ANONYMOUS, f"--temp_location={bucket}/tmp", "--staging_location=gs://other-bucket/x"])
    assert said.startswith("--staging_location gs://other-bucket/x: expected a bucket, there is none of that name")


def fail_with(error: Exception) -> Callable[..., Any]:
    def client(_: object) -> Any:
        raise error

    return client


def test_a_bucket_that_may_not_be_seen_names_the_role(monkeypatch: pytest.MonkeyPatch) -> None:
    from google.api_core.exceptions import Forbidden, RetryError

    flags = [*ANONYMOUS, "--temp_location=gs://bucket/tmp"]
    monkeypatch.setattr(access, "gcs_client", fail_with(Forbidden("nobody may")))
    assert "no access to the bucket (403 nobody may); grant roles/storage.objectUser and" in refusal(flags)
    monkeypatch.setattr(access, "gcs_client", fail_with(RetryError("Timeout of 20.0s exceeded", None)))
    assert "the storage service does not answer (RetryError: Timeout of 20.0s exceeded" in refusal(flags)


def test_without_credentials_the_program_ends_in_one_line(tmp_path: Path) -> None:
    # An address of this machine where nobody listens, in place of Google's metadata server.
    nowhere = {"GCE_METADATA_HOST": "127.0.0.1:9", "GCE_METADATA_IP": "127.0.0.1:9", "HOME": str(tmp_path)}
    kept = {name: value for name, value in os.environ.items() if name != "GOOGLE_APPLICATION_CREDENTIALS"}
    places = ["--images=gs://b/i", f"--weights={TINY_WEIGHTS}", "--output=gs://b/o", "--temp_location=gs://b/t"]
    command = [
        sys.executable,
        "-m",
        "beam_pipeline",
        *places,
        "--runner=DataflowRunner",
        "--project=p",
        "--sdk_container_image=i",
    ]
    done = subprocess.run(
        command, env={**kept, **nowhere, "CLOUDSDK_CONFIG": str(tmp_path)}, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("beam_pipeline: no Google credentials on this machine; get some: gcloud auth")
