"""A file over HTTP: resumed where it was cut, started over where it changed, tried a bounded number of times."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

T = TypeVar("T")
# How often in a row nothing may come before it is given up; the pauses between add up to half a minute.
TRIES = 6
_LONGEST_PAUSE = 16
_TIMEOUT = 60.0
_CHUNK = 1 << 20
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_RANGE_NOT_THERE = 416
_HEADERS = {"User-Agent": "region-features-beam", "Accept-Encoding": "identity"}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class DownloadError(OSError):
    """The file cannot be had; the message is one line for the user."""


class _PassingError(Exception):
    """Trying again may help."""


class SecureRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything else, which could be changed on the way."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request to go on with."""
        if req.type == "https" and not newurl.lower().startswith("https:"):
            raise urllib.error.HTTPError(req.full_url, code, f"to {newurl}, which is not https", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclass(frozen=True)
class Remote:
    """What a server says of a file.

    Attributes:
        url: where it is.
        size: bytes, None where the server does not say.
        validator: what changes when the file does: its strong ETag, else its Last-Modified, else None.
    """

    url: str
    size: int | None
    validator: str | None


def probe(url: str, note: Callable[[str], None]) -> Remote:
    """Ask the server for a file's size, and read nothing of it.

    Raises:
        DownloadError: the server has no such file, or does not answer.
    """

    def ask() -> Remote:
        # Not by HEAD, which some mirrors refuse.
        with _open(url, {}) as response:
            return _describe(url, response)

    return _persist(ask, lambda: 0, url, note)


def download(url: str, part: str, progress: Callable[[int, int | None], None], note: Callable[[str], None]) -> None:
    """Fetch a file into `part`, going on with what is there if the file is still the same one on the server.

    What tells the file's version stands beside it in `part` + `.json` until `forget` removes it. A file whose server
    gives neither a strong ETag nor Last-Modified is never resumed, since the two halves may be of two files.

    Args:
        url: http or https.
        part: local path; whole on return.
        progress: is told the bytes that are there and the whole size, None where the server does not say.
        note: is told of every new try, in one line.

    Raises:
        DownloadError: the server has no such file, or nothing more came in `TRIES` tries; what came stays.
        OSError: `part` cannot be written.
    """
    _persist(lambda: _fetch(url, part, progress), lambda: _length(part), url, note)


def forget(part: str) -> None:
    """Delete what `download` keeps beside `part`."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(_notes_of(part))


def discard(part: str) -> None:
    """Delete `part` and what stands beside it."""
    forget(part)
    with contextlib.suppress(FileNotFoundError):
        os.remove(part)


def _persist(attempt: Callable[[], T], reached: Callable[[], int], url: str, note: Callable[[str], None]) -> T:
    """`attempt`, again after passing errors until `TRIES` in a row have not got further than any before."""
    furthest, failed = reached(), 0
    while True:
        try:
            return attempt()
        except _PassingError as error:
            now = reached()
            failed = 1 if now > furthest else failed + 1
            furthest = max(furthest, now)
            if failed == TRIES:
                raise DownloadError(
                    f"{url}: {error}; given up after {TRIES} tries, run the same command again to go on"
                ) from error
            pause = min(2 ** (failed - 1), _LONGEST_PAUSE)
            note(f"{url}: {error}; trying again in {pause} s")
            time.sleep(pause)


def _fetch(url: str, part: str, progress: Callable[[int, int | None], None]) -> None:
    known = _recall(part, url)
    have = _length(part) if known else 0
    if known and known.size is not None and have == known.size:
        return
    resumed = known.validator if known and have else None
    headers = {"Range": f"bytes={have}-", "If-Range": resumed} if resumed else {}
    try:
        response = _open(url, headers)
    except urllib.error.HTTPError as error:
        error.close()
        discard(part)
        raise _PassingError(f"the server has no byte {have}, the file there must have changed") from error
    with response:
        if response.status == http.client.PARTIAL_CONTENT and known:
            size = known.size
            if not _goes_on(response, known, have):
                discard(part)
                raise _PassingError("the file on the server changed, starting over")
        else:
            have, size = 0, _describe(url, response).size
        with open(part, "ab" if have else "wb") as stream:
            if not have:
                _remember(part, _describe(url, response))
            progress(have, size)
            while chunk := _read(response):
                stream.write(chunk)
                have += len(chunk)
                progress(have, size)
    if size is not None and have > size:
        discard(part)
    if size is not None and have != size:
        raise _PassingError(f"expected {size} bytes, got {have} before the connection ended")


def _open(url: str, headers: dict[str, str]) -> Any:
    """The server's answer, its body not yet read.

    Raises:
        HTTPError: 416, a range that the file has not.
        _PassingError, DownloadError: anything else but the file.
    """
    try:
        opener = urllib.request.build_opener(SecureRedirects)
        return opener.open(urllib.request.Request(url, headers={**_HEADERS, **headers}), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == _RANGE_NOT_THERE and headers:
            raise
        error.close()
        if error.code in _PASSING:
            raise _PassingError(f"the server answers {error.code} {error.reason}") from error
        raise DownloadError(
            f"{url}: expected the file, the server answers {error.code} {error.reason}; check the address"
        ) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise DownloadError(f"{url}: expected a certificate that can be trusted, got: {error.reason}") from error
        raise _PassingError(f"no connection: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _PassingError(f"no connection: {error!r}") from error


def _read(response: Any) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _PassingError(f"the connection was cut: {error!r}") from error


def _describe(url: str, response: Any) -> Remote:
    length = response.headers.get("Content-Length", "")
    tag = response.headers.get("ETag", "")
    # RFC 9110, 13.1.5: a weak tag (W/"...") must not be used to resume.
    validator = tag if tag.startswith('"') else response.headers.get("Last-Modified")
    return Remote(url, int(length) if length.isdecimal() else None, validator)


def _goes_on(response: Any, known: Remote, have: int) -> bool:
    """Whether the rest that the server sends belongs to the part that is here."""
    field = "ETag" if known.validator and known.validator.startswith('"') else "Last-Modified"
    now = response.headers.get(field, known.validator)  # the answer to If-Range may leave it out
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return match is not None and now == known.validator and (int(match[1]), int(match[2])) == (have, known.size)


def _remember(part: str, remote: Remote) -> None:
    if remote.size is None or remote.validator is None:
        forget(part)
        return
    with open(_notes_of(part), "w", encoding="utf-8") as stream:
        json.dump(asdict(remote), stream)


def _recall(part: str, url: str) -> Remote | None:
    """What was noted when `part` was begun; None where there is no part, or of another address."""
    if not os.path.exists(part):
        return None
    try:
        with open(_notes_of(part), encoding="utf-8") as stream:
            known = Remote(**json.load(stream))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return known if known.url == url else None


def _notes_of(part: str) -> str:
    return f"{part}.json"


def _length(part: str) -> int:
    return os.path.getsize(part) if os.path.exists(part) else 0
