"""Download a file over HTTP, resumed after a cut, started over after a change, with a bounded number of tries."""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import sleep
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from region_features.download import rate_floor
from region_features.download.rate_floor import FlooredHTTPHandler, FlooredHTTPSHandler, TooSlowError
from region_features.records.json_text import parse_json

T = TypeVar("T")
# Tries in a row that may bring next to nothing; the pauses between them add up to half a minute.
TRIES = 6
_LONGEST_PAUSE = 16
_TIMEOUT = 60.0
_CHUNK = 1 << 20
_TEMPORARY_STATUS = (408, 425, 429, 500, 502, 503, 504)
_DISTRIBUTION = "region-features"
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class DownloadError(OSError):
    """The file cannot be downloaded; the message is one line for the user."""


class _TemporaryError(Exception):
    """Another try may succeed."""


class SecureRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but never from https to another scheme, where the content may be changed on its way."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the redirected request."""
        if req.type == "https" and not newurl.lower().startswith("https:"):
            raise urllib.error.HTTPError(req.full_url, code, f"to {newurl}, which is not https", headers, fp)
        fp.close()  # urllib would read the redirect's content, however long, into memory
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclass(frozen=True)
class RemoteFile:
    """A file as a server describes it."""

    url: str
    size: int | None  # bytes; None if the server does not say
    validator: str | None  # strong ETag, else Last-Modified, which change with the file; None if it has neither


def shown(uri: str) -> str:
    """Return an http(s) address for messages, without its user, password and query; any other URI as it is.

    A signed address carries its signature in the query.
    """
    parts = urlsplit(uri)
    if parts.scheme.lower() not in ("http", "https"):
        return uri
    host, query = parts.netloc.rpartition("@")[2], "..." if parts.query else ""
    return urlunsplit(parts._replace(netloc=host, query=query))


def probe(url: str, note: Callable[[str], None]) -> RemoteFile:
    """Ask the server for a file's size and version; DownloadError if there is no such file or no answer."""

    def ask() -> RemoteFile:
        # Some mirrors refuse HEAD.
        with _open(url, {}) as response:
            return _describe(url, response)

    return _retry(ask, lambda: 0, url, note)


def download(
    url: str, part: str, progress: Callable[[int, int | None], None], note: Callable[[str], None]
) -> int | None:
    """Download a file to `part`; continue an earlier download if the server's file is still the same.

    The file's description is kept in `part` + `.json` until `forget` deletes it. A file without a strong ETag and
    Last-Modified is always downloaded as a whole.

    Args:
        url: http or https.
        part: local path.
        progress: called with the bytes in `part` and the bytes of the file, None if the server does not say.
        note: called with one line before every further try.

    Returns:
        Bytes of the file, None if the server does not say.

    Raises:
        DownloadError: the server has no such file, or each of `TRIES` tries in a row was cut, or too slow, before it
            brought what `rate_floor.MIN_RATE` brings in `RATE_SECONDS`; `part` stays.
        OSError: `part` cannot be written.
    """
    return _retry(lambda: _fetch(url, part, progress), lambda: _length(part), url, note)


def forget(part: str) -> None:
    """Delete the description beside `part`."""
    _description_path(part).unlink(missing_ok=True)


def discard(part: str) -> None:
    """Delete `part` and its description."""
    forget(part)
    Path(part).unlink(missing_ok=True)


def _retry(attempt: Callable[[], T], reached: Callable[[], int], url: str, note: Callable[[str], None]) -> T:
    """Repeat `attempt` after temporary errors, until `TRIES` in a row have reached hardly more bytes."""
    furthest, failed = reached(), 0
    enough = int(rate_floor.MIN_RATE * rate_floor.RATE_SECONDS)
    while True:
        try:
            return attempt()
        except _TemporaryError as error:
            now = reached()
            failed = 1 if now >= furthest + enough else failed + 1
            furthest = max(furthest, now)
            if failed == TRIES:
                raise DownloadError(
                    f"{shown(url)}: {error}; given up after {TRIES} tries, run the same command again to go on"
                ) from error
            pause = min(2 ** (failed - 1), _LONGEST_PAUSE)
            note(f"{shown(url)}: {error}; trying again in {pause} s")
            sleep(pause)


def _fetch(url: str, part: str, progress: Callable[[int, int | None], None]) -> int | None:
    begun = load_description(part, url)
    have = _length(part) if begun else 0
    if begun and have == begun.size:
        return begun.size
    validator = begun.validator if begun and have else None
    try:
        response = _open(url, {"Range": f"bytes={have}-", "If-Range": validator} if validator else {})
    except urllib.error.HTTPError as error:
        error.close()
        discard(part)
        raise _TemporaryError(f"the server has no byte {have}, the file there must have changed") from error
    with response:
        remote = _describe(url, response)
        if response.status == http.HTTPStatus.PARTIAL_CONTENT and begun:
            size = begun.size
            if not _continues(response, begun, have):
                discard(part)
                raise _TemporaryError("the file on the server changed, starting over")
        else:
            have, size = 0, remote.size
        with open(part, "ab" if have else "wb") as stream:
            if not have:
                _save_description(part, remote)
            progress(have, size)
            while chunk := _read(response):
                stream.write(chunk)
                have += len(chunk)
                progress(have, size)
    if size is not None and have > size:
        discard(part)
    if size is not None and have != size:
        raise _TemporaryError(f"expected {size} bytes, got {have} before the connection ended")
    return size


def _open(url: str, headers: dict[str, str]) -> Any:
    """Send a GET request, without reading the body; HTTPError is 416 only, the file has no such range."""
    sent = {"User-Agent": _user_agent(), "Accept-Encoding": "identity"}
    try:
        opener = urllib.request.build_opener(SecureRedirects, FlooredHTTPHandler, FlooredHTTPSHandler)
        return opener.open(urllib.request.Request(url, headers={**sent, **headers}), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and headers:
            raise
        error.close()
        answer = f"the server answers {error.code} {error.reason}"
        if error.code in _TEMPORARY_STATUS:
            raise _TemporaryError(answer) from error
        raise DownloadError(f"{shown(url)}: expected the file, {answer}; check the address") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise DownloadError(
                f"{shown(url)}: expected a certificate that can be trusted, got: {error.reason}"
            ) from error
        raise _TemporaryError(f"no connection: {error.reason}") from error
    except TooSlowError as error:
        raise _TemporaryError(str(error)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _TemporaryError(f"no connection: {error!r}") from error


def _user_agent() -> str:
    try:
        return f"{_DISTRIBUTION}/{importlib.metadata.version(_DISTRIBUTION)}"
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return _DISTRIBUTION


def _read(response: Any) -> bytes:
    try:
        return response.read1(_CHUNK)  # what is there: `read` waits for a whole chunk, for ever on a slow connection
    except TooSlowError as error:
        raise _TemporaryError(str(error)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _TemporaryError(f"the connection was cut: {error!r}") from error


def _describe(url: str, response: Any) -> RemoteFile:
    length = response.headers.get("Content-Length", "")
    tag = response.headers.get("ETag", "")
    # RFC 9110, 13.1.5: a weak tag (W/"...") must not be used to resume.
    validator = tag if tag.startswith('"') else response.headers.get("Last-Modified")
    return RemoteFile(url, int(length) if length.isdecimal() else None, validator)


def _continues(response: Any, begun: RemoteFile, have: int) -> bool:
    """Return whether a partial response starts at byte `have` of the file that was begun."""
    field = "ETag" if begun.validator and begun.validator.startswith('"') else "Last-Modified"
    validator = response.headers.get(field, begun.validator)  # a response to If-Range may leave it out
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return match is not None and validator == begun.validator and (int(match[1]), int(match[2])) == (have, begun.size)


def _save_description(part: str, remote: RemoteFile) -> None:
    if remote.size is None or remote.validator is None:
        forget(part)
        return
    _description_path(part).write_text(json.dumps(asdict(remote)), encoding="utf-8")


def load_description(part: str, url: str) -> RemoteFile | None:
    """Read how the server described `part` when it was begun; None if there is no part, or one of another address."""
    if not os.path.exists(part):
        return None
    try:
        begun = RemoteFile(**parse_json(_description_path(part).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return begun if begun.url == url else None


def _description_path(part: str) -> Path:
    return Path(f"{part}.json")


def _length(part: str) -> int:
    return os.path.getsize(part) if os.path.exists(part) else 0
