"""A floor under the rate at which a server answers, on everything that it sends: headers, chunk sizes and content.

A socket's timeout bounds the wait for the next byte alone: a server that sends a byte a minute would hold a client for
ever.
"""

from __future__ import annotations

import http.client
import io
import urllib.request
from time import monotonic
from typing import Any

# A connection that brings fewer bytes a second, on average over so many seconds of waiting, counts as cut.
MIN_RATE, RATE_SECONDS = 1024, 60.0


class TooSlowError(OSError):
    """The server answers too slowly; the message is a part of a line for the user."""


class _RateFloor(io.RawIOBase):
    """The bytes of a connection, which have to come in time."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._begun = monotonic()
        self._in_headers = True
        self._waited, self._bytes = 0.0, 0

    def headers_end(self) -> None:
        """Hold the bytes that follow to a rate; until now the clock alone counts."""
        self._in_headers = False
        self._waited, self._bytes = 0.0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what is there, at most the buffer's size.

        Raises:
            TooSlowError: the headers take longer than `RATE_SECONDS`, or the rate is below `MIN_RATE`.
        """
        before = monotonic()
        count: int | None = self._raw.readinto(buffer)
        now = monotonic()
        # Only the time of waiting: a reader that takes its time is not the server's fault.
        self._waited += now - before
        self._bytes += count or 0
        if self._in_headers:
            if now - self._begun >= RATE_SECONDS:
                raise TooSlowError(f"expected the headers of an answer within {RATE_SECONDS:.0f} s, got a part of them")
        elif self._waited >= RATE_SECONDS:
            if self._bytes < MIN_RATE * self._waited:
                got = f"{self._bytes} in {self._waited:.0f} s"
                raise TooSlowError(f"expected at least {MIN_RATE} bytes a second, got {got}")
            self._waited, self._bytes = 0.0, 0
        return count

    def close(self) -> None:
        super().close()
        self._raw.close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._floor = _RateFloor(self.fp.detach())
        self.fp = io.BufferedReader(self._floor)

    def begin(self) -> None:
        super().begin()
        self._floor.headers_end()


class _FlooredConnections:
    def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
        def connection(*arguments: Any, **keywords: Any) -> Any:
            opened = http_class(*arguments, **keywords)
            opened.response_class = _Response
            return opened

        return super().do_open(connection, req, **options)  # type: ignore[misc]


class FlooredHTTPHandler(_FlooredConnections, urllib.request.HTTPHandler):
    """Open http addresses, with the floor under the rate of what comes."""


class FlooredHTTPSHandler(_FlooredConnections, urllib.request.HTTPSHandler):
    """Open https addresses, with the floor under the rate of what comes."""
