"""Credentials, a service of one's own and the staging buckets, tried first: what is missing is said within seconds."""

from __future__ import annotations

import functools
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from beam_pipeline.dataflow.errors import describe_error
from beam_pipeline.usage import UsageError
from transforms.beam_private import connect_anonymously, gcs_client

_LOG_IN = "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS=KEY.json"
_REQUEST_SECONDS, _ALL_REQUESTS_SECONDS = 10.0, 20.0


def check_access(options: PipelineOptions) -> None:
    """Find credentials that Google accepts, a service that was named, and the buckets that a job is staged in.

    Raises:
        UsageError: says which is missing and how to get it.
    """
    cloud = options.view_as(GoogleCloudOptions)
    if cloud.no_auth:
        connect_anonymously()
    else:
        _check_credentials(cloud)
    if cloud.dataflow_endpoint != cloud.DATAFLOW_ENDPOINT:
        _check_endpoint(cloud.dataflow_endpoint)
        # Beam itself asks for them only where the service is Google's.
        for flag in ("project", "region", "temp_location"):
            if not getattr(cloud, flag):
                raise UsageError(f"--{flag} is missing: Dataflow needs it for a job")
    for flag in ("temp_location", "staging_location"):
        path = getattr(cloud, flag)
        if path and path.startswith("gs://"):
            _check_bucket(options, f"--{flag} {path}", urlsplit(path).netloc)


def _check_credentials(cloud: GoogleCloudOptions) -> None:
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError
    from google.auth.transport.requests import Request

    try:
        credentials, _ = google.auth.default(scopes=cloud.gcp_oauth_scopes)
        credentials.refresh(functools.partial(Request(), timeout=_REQUEST_SECONDS))
    except DefaultCredentialsError as error:
        raise UsageError(f"no Google credentials on this machine; get some: {_LOG_IN}") from error
    except RefreshError as error:
        raise UsageError(f"Google refuses this machine's credentials: {error}; get others: {_LOG_IN}") from error
    except GoogleAuthError as error:
        raise UsageError(f"Google cannot be reached to check the credentials: {error}; check the network") from error


def _check_endpoint(address: str) -> None:
    """Connect to a service that a user named: a request to one that drops them would wait for a minute."""
    if getproxies():  # only they reach it
        return
    place = urlsplit(address if "//" in address else f"//{address}")
    try:
        port = place.port or (80 if place.scheme == "http" else 443)
        socket.create_connection((place.hostname or "", port), timeout=_REQUEST_SECONDS).close()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--dataflow_endpoint {address}: nobody answers there ({describe_error(error)}); check the address"
        ) from error


def _check_bucket(options: PipelineOptions, flag: str, name: str) -> None:
    from google.api_core.exceptions import Forbidden, GoogleAPICallError, NotFound, RetryError, Unauthorized
    from google.cloud.storage.retry import DEFAULT_RETRY
    from requests.exceptions import RequestException

    retry = DEFAULT_RETRY.with_timeout(_ALL_REQUESTS_SECONDS)
    try:
        gcs_client(options).get_bucket(name, timeout=_REQUEST_SECONDS, retry=retry)
    except NotFound as error:
        raise UsageError(f"{flag}: expected a bucket, there is none of that name; make it, or name another") from error
    except (Forbidden, Unauthorized) as error:
        raise UsageError(
            f"{flag}: no access to the bucket ({describe_error(error)}); grant roles/storage.objectUser and "
            f"roles/storage.legacyBucketReader on it, or log in: {_LOG_IN}"
        ) from error
    except (GoogleAPICallError, RetryError, RequestException) as error:
        raise UsageError(f"{flag}: the storage service does not answer ({describe_error(error)}); try again") from error
