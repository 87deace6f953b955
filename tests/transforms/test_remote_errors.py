"""Errors of remote storage as the OSErrors that a local disk would raise."""

from __future__ import annotations

import errno

import pytest
from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound, RetryError, ServiceUnavailable, Unauthorized
from google.auth.exceptions import RefreshError

from beam_pipeline.defects import is_defect
from transforms.remote_errors import as_os_errors


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (NotFound("no such object"), FileNotFoundError, "No such file or directory: 'gs://b/o'"),
        (Forbidden("x lacks storage.objects.get"), PermissionError, "Permission denied: 403 x lacks storage.objects.g"),
        (Unauthorized("anonymous caller"), PermissionError, "Permission denied: 401 anonymous caller"),
        (ServiceUnavailable("later"), OSError, "ServiceUnavailable: 503 later"),
        (RetryError("for 120 seconds", ServiceUnavailable("later")), OSError, "RetryError: for 120 seconds"),
        (RefreshError("expired"), OSError, "RefreshError: expired"),
    ],
)
def test_an_error_of_the_storage_is_one_of_the_system(error: Exception, kind: type[OSError], text: str) -> None:
    with pytest.raises(OSError, match=text) as caught, as_os_errors("gs://b/o"):
        raise error
    assert type(caught.value) is kind and caught.value.__cause__ is error
    assert (caught.value.errno in (errno.ENOENT, errno.EACCES)) == (kind is not OSError)


@pytest.mark.parametrize("error", [ValueError("damaged"), KeyError("field"), OSError(28, "No space left on device")])
def test_any_other_error_passes(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, as_os_errors("gs://b/o"):
        raise error
    assert caught.value is error


def test_an_error_of_the_storage_is_no_defect_of_the_program() -> None:
    wrapped = RuntimeError("while running step WriteShards")
    wrapped.__cause__ = GoogleAPIError("the network is down")
    assert not is_defect(wrapped)
