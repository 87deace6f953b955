"""What a Google service answered in place of a result: whether to ask again, and how to say it in one line."""

from __future__ import annotations

import re

_MAX_CHARACTERS = 400
_ASK_AGAIN = (408, 429)
_REFUSED_LOGIN = re.compile(r"invalid_grant|[Rr]eauthentication|invalid_rapt")
_NOT_CONNECTED = re.compile(r"failed to connect|DNS resolution|[Nn]ame resolution|[Cc]onnection refused")
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*: ")
_BEFORE_TRACEBACK = "Traceback (most recent call last)"

# What the service or a worker said -> what to do about it; the first that matches.
_REMEDIES = (
    (r"ZONE_RESOURCE_POOL_EXHAUSTED|enough resources|stockout", "name another --region, --worker_zone or GPU"),
    (r"[Qq]uota", "ask for more of that quota in the region, or lower --max_num_workers"),
    (r"expected a GPU that torch can use", "add install-nvidia-driver:5xx to --accelerator"),
    (r"driver .*too old", "add install-nvidia-driver:5xx to --accelerator"),
    (r"No module named", "check that --sdk_container_image was built from this version's Dockerfile"),
    (r"[Ii]mage.*(pull|not found)|pull.*image", "check --sdk_container_image, and that the workers may read it"),
    (r"invalid_grant|[Rr]eauthentication|^401", "log in again: gcloud auth application-default login"),
    (r"^404", "check --project, --region and whether the Dataflow API is enabled"),
    (r"[Pp]ermission|PERMISSION_DENIED|^403", "grant the missing role; docs/deploy.md lists all"),
)
GO_ON = "run the same command again to go on"


class JobError(RuntimeError):
    """A job could not be submitted, or did not end well.

    Attributes:
        remedy: what the user can do about it.
    """

    def __init__(self, message: str, remedy: str = GO_ON) -> None:
        super().__init__(message)
        self.remedy = remedy


def remedy_for(reason: str) -> str:
    """Return what a user can do about what a service or a worker said."""
    return next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, reason)), GO_ON)


def is_unreachable(error: Exception) -> bool:
    """Return whether there was nobody to answer."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import TransportError
    from requests.exceptions import ConnectionError, Timeout

    if isinstance(error, GoogleAPICallError):
        return bool(_NOT_CONNECTED.search(str(error)))
    return isinstance(error, ConnectionError | Timeout | TransportError)


def is_passing(error: Exception) -> bool:
    """Return whether the same request may be answered in a while: overload, an outage, a broken connection."""
    from google.api_core.exceptions import GoogleAPICallError, RetryError

    if isinstance(error, GoogleAPICallError) and error.code is not None:
        # A login that is refused while a request is signed comes as status 503.
        return not _REFUSED_LOGIN.search(str(error)) and (error.code >= 500 or error.code in _ASK_AGAIN)
    return isinstance(error, RetryError) or is_unreachable(error)


def describe_error(error: BaseException) -> str:
    """Return an error of a service in one line, its HTTP status first where it has one."""
    from google.auth.exceptions import InvalidOperation

    if isinstance(error, InvalidOperation):
        return "401 the service asks for credentials, and --no_auth sends none"
    code, message = getattr(error, "code", None), getattr(error, "message", None)
    if isinstance(code, int) and message:
        return shorten(f"{int(code)} {message}")
    return shorten(f"{type(error).__name__}: {error}")


def describe_message(text: str) -> str:
    """Return a job's message in one line; of a stack, the exception that ended it."""
    lines = [line for line in text.splitlines() if line.strip()]
    if _BEFORE_TRACEBACK in text:
        exceptions = [line for line in lines if _EXCEPTION.match(line) and _BEFORE_TRACEBACK not in line]
        lines = exceptions[-1:] or lines[-1:]
    return shorten(" ".join(lines))


def shorten(text: str) -> str:
    """Return a text in one line that fits a log."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_CHARACTERS else f"{line[: _MAX_CHARACTERS - 3]}..."
