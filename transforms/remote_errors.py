"""Errors of remote storage as the OSErrors that a local disk would raise, so that callers know one kind."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

_NOT_FOUND, _REFUSED = 404, (401, 403)


def is_remote_error(error: BaseException) -> bool:
    """Return whether Google's packages raised an error of their own class, for storage or for credentials."""
    try:
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import InvalidResponse
    except ImportError:
        return False
    return isinstance(error, GoogleAPIError | GoogleAuthError | InvalidResponse)


@contextlib.contextmanager
def as_os_errors(path: str) -> Iterator[None]:
    """Raise an OSError in place of an error of remote storage.

    Args:
        path: what the block reads or writes.

    Raises:
        FileNotFoundError: there is no such object or bucket.
        PermissionError: access is refused; with the storage's own words, which name the missing right.
        OSError: any other error of the storage, after its client has tried for two minutes.
    """
    try:
        yield
    except Exception as error:
        if not is_remote_error(error):
            raise
        status = getattr(error, "code", None)
        if status == _NOT_FOUND:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        if status in _REFUSED:
            raise PermissionError(errno.EACCES, f"{os.strerror(errno.EACCES)}: {error}", path) from error
        raise OSError(f"{type(error).__name__}: {error}") from error
