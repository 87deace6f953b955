"""Downloads from a server that cuts connections, changes its files, sends wrong headers and fails."""

from __future__ import annotations

import importlib.metadata
import json
import resource
import socket
from collections.abc import Iterator
from email.message import Message
from io import BytesIO
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request

import numpy as np
import pytest

from region_features.download.http import TRIES, DownloadError, SecureRedirects, discard, download, forget, probe
from tests.samples.file_server import GOOD, Answer, FileServer, serving

FILE = np.random.default_rng(0).bytes(3_000_000)
OTHER = np.random.default_rng(1).bytes(2_000_000)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses instead of waiting, and bypass the environment's proxies."""
    made: list[float] = []
    monkeypatch.setattr("region_features.download.http.sleep", made.append)
    monkeypatch.setenv("no_proxy", "*")
    return made


@pytest.fixture
def server(pauses: list[float]) -> Iterator[FileServer]:
    with serving() as state:
        state.files["/a.zip"] = FILE
        yield state


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "a.part"


def fetch(server: FileServer, part: Path) -> list[str]:
    """Download `/a.zip`, and return the notes."""
    notes: list[str] = []
    download(f"{server.base}/a.zip", str(part), lambda done, total: None, notes.append)
    return notes


def ranges(server: FileServer) -> list[tuple[str | None, int]]:
    return [(asked, status) for _, asked, status in server.log]


def test_a_whole_file_is_not_requested_again(server: FileServer, part: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    download(f"{server.base}/a.zip", str(part), lambda done, total: seen.append((done, total)), lambda text: None)
    assert part.read_bytes() == FILE
    assert seen[0] == (0, len(FILE)) and seen[-1] == (len(FILE), len(FILE)) and len(seen) > 3
    assert fetch(server, part) == []
    assert ranges(server) == [(None, 200)]


def test_probing_returns_size_and_version(server: FileServer) -> None:
    assert (probe(f"{server.base}/a.zip", print).size, probe(f"{server.base}/a.zip", print).validator) == (
        len(FILE),
        '"v0"',
    )
    server.tags, server.length = "weak", False
    remote = probe(f"{server.base}/a.zip", print)
    assert (remote.size, remote.validator) == (None, "Mon, 01 Jun 2015 10:00:00 GMT")


@pytest.mark.parametrize("tags", ["etag", "weak", "date"])
def test_a_cut_download_is_resumed_where_it_ended(
    server: FileServer, part: Path, pauses: list[float], tags: str
) -> None:
    server.tags = tags
    server.script = [Answer(cut=1_000_000), Answer(cut=500_000)]
    notes = fetch(server, part)
    assert part.read_bytes() == FILE
    assert ranges(server) == [(None, 200), ("bytes=1000000-", 206), ("bytes=1500000-", 206)]
    assert pauses == [1, 1]  # each try got further
    assert "expected 3000000 bytes, got 1000000 before the connection ended; trying again in 1 s" in notes[0]


def test_a_later_run_resumes_the_download(server: FileServer, part: Path) -> None:
    server.script = [Answer(cut=2_999_999), *[Answer(status=503)] * (TRIES - 1)]
    with pytest.raises(DownloadError, match="the server answers 503"):
        fetch(server, part)
    server.log.clear()
    fetch(server, part)
    assert part.read_bytes() == FILE
    assert ranges(server) == [("bytes=2999999-", 206)]


def test_a_file_that_changed_between_tries_starts_over(server: FileServer, part: Path) -> None:
    server.script = [Answer(cut=1_000_000), Answer(change=OTHER)]
    fetch(server, part)
    assert part.read_bytes() == OTHER
    assert ranges(server) == [(None, 200), ("bytes=1000000-", 200)]


def test_a_change_is_seen_even_if_the_server_ignores_the_condition(server: FileServer, part: Path) -> None:
    server.script = [Answer(cut=1_000_000), Answer(change=OTHER, careless=True)]
    notes = fetch(server, part)
    assert part.read_bytes() == OTHER
    assert ranges(server) == [(None, 200), ("bytes=1000000-", 206), (None, 200)]
    assert "the file on the server changed, starting over" in notes[1]


def test_a_file_that_became_shorter_than_the_part_starts_over(server: FileServer, part: Path) -> None:
    server.script = [Answer(cut=2_500_000), Answer(change=OTHER, careless=True)]
    notes = fetch(server, part)
    assert part.read_bytes() == OTHER
    assert [status for _, status in ranges(server)] == [200, 416, 200]
    assert "the server has no byte 2500000" in notes[1]


def test_a_server_without_ranges_sends_the_whole_file_again(server: FileServer, part: Path) -> None:
    server.script = [Answer(cut=1_000_000), Answer(whole=True)]
    fetch(server, part)
    assert part.read_bytes() == FILE
    assert ranges(server) == [(None, 200), ("bytes=1000000-", 200)]


def test_a_file_without_a_version_is_not_resumed(server: FileServer, part: Path) -> None:
    server.tags = ""
    server.script = [Answer(cut=1_000_000), Answer(change=OTHER)]
    fetch(server, part)
    assert part.read_bytes() == OTHER
    assert ranges(server) == [(None, 200), (None, 200)]


def test_a_file_of_unknown_length_is_downloaded_each_time(server: FileServer, part: Path) -> None:
    server.length = False
    fetch(server, part)
    assert part.read_bytes() == FILE
    fetch(server, part)
    assert part.read_bytes() == FILE and len(server.log) == 2  # it may have been cut


def test_a_file_shorter_than_its_declared_length_is_given_up(
    server: FileServer, part: Path, pauses: list[float]
) -> None:
    server.script = [Answer(extra=5)] * 50
    notes: list[str] = []
    with pytest.raises(DownloadError, match="given up after 6 tries"):
        download(f"{server.base}/a.zip", str(part), lambda *_: None, notes.append)
    assert "expected 3000005 bytes, got 3000000 before the connection ended" in notes[0]
    assert len(server.log) == TRIES


def test_a_server_that_always_cuts_at_the_same_byte_is_given_up(
    server: FileServer, part: Path, pauses: list[float]
) -> None:
    server.script = [Answer(cut=1000, whole=True)] * 50
    with pytest.raises(DownloadError, match="got 1000 before the connection ended; given up after 6 tries"):
        fetch(server, part)
    assert len(server.log) == TRIES
    assert pauses == [1, 2, 4, 8, 16]


def test_temporary_errors_are_retried_after_growing_pauses(server: FileServer, part: Path, pauses: list[float]) -> None:
    server.script = [Answer(status=500), Answer(status=503), Answer(status=429), GOOD]
    notes = fetch(server, part)
    assert part.read_bytes() == FILE
    assert pauses == [1, 2, 4]
    assert "the server answers 500 Internal Server Error; trying again in 1 s" in notes[0]


def test_a_connection_below_the_least_rate_counts_as_cut(
    server: FileServer, part: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("region_features.download.rate_floor.RATE_SECONDS", 0.3)
    server.script = [Answer(cut=1_000_000), Answer(pause=0.02)]
    notes = fetch(server, part)
    assert part.read_bytes() == FILE
    asked = [asked for asked, _ in ranges(server)]
    assert asked[:2] == [None, "bytes=1000000-"] and len(asked) == 3
    assert 1_000_000 < int((asked[2] or "")[6:-1]) < 1_000_100  # what came slowly is kept
    assert "expected at least 1024 bytes a second, got " in notes[1] and "trying again in 2 s" in notes[1]


def test_a_server_that_stays_slow_is_given_up(
    server: FileServer, part: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("region_features.download.rate_floor.RATE_SECONDS", 0.2)
    server.script = [Answer(pause=0.02)] * 50
    with pytest.raises(DownloadError, match=r"expected at least 1024 bytes a second, got .*; given up after 6 tries"):
        fetch(server, part)
    assert len(server.log) == TRIES and pauses == [1, 2, 4, 8, 16]
    assert 0 < part.stat().st_size < 1000


def test_a_connection_above_the_least_rate_is_kept(
    server: FileServer, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("region_features.download.rate_floor.RATE_SECONDS", 0.1)
    monkeypatch.setattr("region_features.download.rate_floor.MIN_RATE", 10)
    server.files["/a.zip"] = FILE[:50]
    server.script = [Answer(pause=0.01)]
    assert fetch(server, part) == []
    assert part.read_bytes() == FILE[:50] and len(server.log) == 1


def test_requests_name_the_distribution_and_its_version(server: FileServer, part: Path) -> None:
    fetch(server, part)
    assert server.agents == [f"region-features/{importlib.metadata.version('region-features')}"]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_permanent_errors_are_not_retried(server: FileServer, part: Path, pauses: list[float], status: int) -> None:
    server.script = [Answer(status=status)]
    with pytest.raises(
        DownloadError, match=f"a.zip: expected the file, the server answers {status} .*check the address"
    ):
        fetch(server, part)
    assert pauses == [] and not part.exists()


def test_a_server_that_is_down_is_given_up(part: Path, pauses: list[float]) -> None:
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port = probe_socket.getsockname()[1]
    for action in (
        lambda: probe(f"http://127.0.0.1:{port}/a.zip", lambda text: None),
        lambda: download(f"http://127.0.0.1:{port}/a.zip", str(part), lambda *_: None, lambda text: None),
    ):
        pauses.clear()
        with pytest.raises(DownloadError, match=r"no connection: .*refused"):
            action()
        assert pauses == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"url": 1}', '{"url": "x", "size": 3000000, "validator": "y"}'])
def test_a_part_whose_origin_is_unknown_is_not_trusted(server: FileServer, part: Path, text: str) -> None:
    part.write_bytes(b"x" * len(FILE))
    Path(f"{part}.json").write_text(text)
    fetch(server, part)
    assert part.read_bytes() == FILE
    assert ranges(server) == [(None, 200)]


def test_a_part_longer_than_the_file_is_not_trusted(server: FileServer, part: Path) -> None:
    fetch(server, part)
    part.write_bytes(FILE + b"x")
    fetch(server, part)
    assert part.read_bytes() == FILE


def test_a_full_disk_is_an_error_and_the_next_run_resumes(server: FileServer, part: Path, pauses: list[float]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            fetch(server, part)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert pauses == []
    fetch(server, part)
    assert part.read_bytes() == FILE
    assert ranges(server) == [(None, 200), ("bytes=1500000-", 206)]


def test_forget_and_discard_leave_no_files(server: FileServer, part: Path) -> None:
    fetch(server, part)
    assert json.loads(Path(f"{part}.json").read_text())["validator"] == '"v0"'
    forget(str(part))
    assert [path.name for path in part.parent.iterdir()] == ["a.part"]
    discard(str(part))
    assert not list(part.parent.iterdir())


def test_redirects_never_leave_https() -> None:
    def redirect(start: str, to: str) -> Request | None:
        return SecureRedirects().redirect_request(Request(start), BytesIO(), 302, "Found", Message(), to)

    request = redirect("https://a.org/w", "https://cdn.org/w?signed")
    assert request is not None and request.full_url == "https://cdn.org/w?signed"
    assert redirect("http://127.0.0.1/w", "http://127.0.0.1/v") is not None
    for to in ("http://cdn.org/w", "ftp://cdn.org/w"):
        with pytest.raises(HTTPError, match="which is not https"):
            redirect("https://a.org/w", to)
