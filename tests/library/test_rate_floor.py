"""Servers that answer byte by byte, or without an end, hold no download."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from region_features.download.http import TRIES, DownloadError, download

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
PAUSE = 0.02
HEADERS, RATE = "headers of an answer within 0 s", "at least 1024 bytes a second"


@contextlib.contextmanager
def answering(pieces: Iterable[bytes], pause: float) -> Iterator[str]:
    """Answer every connection by the same pieces, with a pause after each; give the server's address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):  # closed at the end
                while True:
                    threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):  # the client hangs up
                connection.recv(1 << 16)
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(pause)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/a.zip"
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("region_features.download.http.sleep", lambda seconds: None)
    monkeypatch.setattr("region_features.download.rate_floor.RATE_SECONDS", 0.15)
    return tmp_path / "a.part"


def slowly(text: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in text]


@pytest.mark.parametrize(
    ("pieces", "pause", "words"),
    [
        ([*slowly(OK + b"Content-Length: 1\r\n\r\n"), b"x"], PAUSE, HEADERS),
        ([OK, *[b"X: a\r\n"] * 90, b"\r\n"], PAUSE, HEADERS),
        (itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 99), 0, HEADERS),
        ([CHUNKED, *slowly(b"0" * 60 + b"1\r\nx\r\n0\r\n\r\n")], PAUSE, RATE),
        ([CHUNKED, b"1\r\nx\r\n0\r\n", *slowly(b"Trailer: " + b"x" * 60 + b"\r\n\r\n")], PAUSE, RATE),
    ],
    ids=["status line", "headers", "endless interim answers", "size of a chunk", "trailer"],
)
def test_every_part_of_an_answer_has_to_come_in_time(
    part: Path, pieces: Iterable[bytes], pause: float, words: str
) -> None:
    notes: list[str] = []
    with answering(pieces, pause) as url, pytest.raises(DownloadError, match=f"expected .*{words}.*; given up after"):
        download(url, str(part), lambda *_: None, notes.append)
    assert len(notes) == TRIES - 1


def test_the_content_of_a_redirect_is_not_read(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("region_features.download.rate_floor.RATE_SECONDS", 60)
    with answering([OK + b"Content-Length: 3\r\n\r\nend"], 0) as target:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        endless = itertools.chain([moved], itertools.repeat(b"1\r\nx\r\n"))
        with answering(endless, PAUSE) as url:
            assert download(url, str(part), lambda *_: None, print) == 3
    assert part.read_bytes() == b"end"


def test_a_slow_reader_is_not_the_servers_fault(part: Path) -> None:
    content = [b"x" * 100] * 5
    with answering([OK + b"Content-Length: 500\r\n\r\n", *content], 0.01) as url:
        download(url, str(part), lambda done, total: time.sleep(0.1), lambda note: pytest.fail(note))
    assert part.read_bytes() == b"".join(content)
