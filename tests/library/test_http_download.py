"""A file over HTTP from a server that cuts, changes, lies and fails."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from region_features.download.http import TRIES, DownloadError, discard, download, forget, probe
from tests.samples.file_server import GOOD, Answer, FileServer, serving

FILE = np.random.default_rng(0).bytes(3_000_000)
OTHER = np.random.default_rng(1).bytes(2_000_000)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made; none takes time. No proxy of the environment stands between."""
    made: list[float] = []
    monkeypatch.setattr("region_features.download.http.time.sleep", made.append)
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
    """Download `/a.zip`; what was noted."""
    notes: list[str] = []
    download(f"{server.base}/a.zip", str(part), lambda done, total: None, notes.append)
    return notes


def ranges(server: FileServer) -> list[tuple[str | None, int]]:
    return [(asked, status) for _, asked, status in server.log]


def test_a_file_comes_whole_and_is_not_asked_for_again(server: FileServer, part: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    download(f"{server.base}/a.zip", str(part), lambda done, total: seen.append((done, total)), lambda text: None)
    assert part.read_bytes() == FILE
    assert seen[0] == (0, len(FILE)) and seen[-1] == (len(FILE), len(FILE)) and len(seen) > 3
    assert fetch(server, part) == []
    assert ranges(server) == [(None, 200)]


def test_probing_tells_size_and_version(server: FileServer) -> None:
    assert (probe(f"{server.base}/a.zip", print).size, probe(f"{server.base}/a.zip", print).validator) == (
        len(FILE),
        '"v0"',
    )
    server.tags, server.length = "weak", False
    remote = probe(f"{server.base}/a.zip", print)
    assert (remote.size, remote.validator) == (None, "Mon, 01 Jun 2015 10:00:00 GMT")


@pytest.mark.parametrize("tags", ["etag", "weak", "date"])
def test_a_cut_connection_is_resumed_where_it_ended(
    server: FileServer, part: Path, pauses: list[float], tags: str
) -> None:
    server.tags = tags
    server.script = [Answer(cut=1_000_000), Answer(cut=500_000)]
    notes = fetch(server, part)
    assert part.read_bytes() == FILE
    assert ranges(server) == [(None, 200), ("bytes=1000000-", 206), ("bytes=1500000-", 206)]
    assert pauses == [1, 1]  # each try got further
    assert "expected 3000000 bytes, got 1000000 before the connection ended; trying again in 1 s" in notes[0]


def test_a_later_program_goes_on(server: FileServer, part: Path) -> None:
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


def test_a_server_without_ranges_sends_all_again(server: FileServer, part: Path) -> None:
    server.script = [Answer(cut=1_000_000), Answer(whole=True)]
    fetch(server, part)
    assert part.read_bytes() == FILE
    assert ranges(server) == [(None, 200), ("bytes=1000000-", 200)]


def test_without_a_sign_of_its_version_a_file_is_never_pieced_together(server: FileServer, part: Path) -> None:
    server.tags = ""
    server.script = [Answer(cut=1_000_000), Answer(change=OTHER)]
    fetch(server, part)
    assert part.read_bytes() == OTHER
    assert ranges(server) == [(None, 200), (None, 200)]


def test_a_server_that_says_no_length(server: FileServer, part: Path) -> None:
    server.length = False
    fetch(server, part)
    assert part.read_bytes() == FILE
    fetch(server, part)
    assert part.read_bytes() == FILE and len(server.log) == 2  # whether it was whole, nobody can tell


def test_a_length_that_is_too_long_ends_after_a_few_tries(server: FileServer, part: Path, pauses: list[float]) -> None:
    server.script = [Answer(extra=5)] * 50
    notes: list[str] = []
    with pytest.raises(DownloadError, match="given up after 6 tries"):
        download(f"{server.base}/a.zip", str(part), lambda *_: None, notes.append)
    assert "expected 3000005 bytes, got 3000000 before the connection ended" in notes[0]
    assert len(server.log) == TRIES


def test_a_server_that_always_cuts_at_one_place_is_given_up(
    server: FileServer, part: Path, pauses: list[float]
) -> None:
    server.script = [Answer(cut=1000, whole=True)] * 50
    with pytest.raises(DownloadError, match="got 1000 before the connection ended; given up after 6 tries"):
        fetch(server, part)
    assert len(server.log) == TRIES
    assert pauses == [1, 2, 4, 8, 16]


def test_errors_that_pass_are_waited_for(server: FileServer, part: Path, pauses: list[float]) -> None:
    server.script = [Answer(status=500), Answer(status=503), Answer(status=429), GOOD]
    notes = fetch(server, part)
    assert part.read_bytes() == FILE
    assert pauses == [1, 2, 4]
    assert "the server answers 500 Internal Server Error; trying again in 1 s" in notes[0]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_errors_that_stay_are_errors_at_once(server: FileServer, part: Path, pauses: list[float], status: int) -> None:
    server.script = [Answer(status=status)]
    with pytest.raises(
        DownloadError, match=f"a.zip: expected the file, the server answers {status} .*check the address"
    ):
        fetch(server, part)
    assert pauses == [] and not part.exists()


def test_no_server_at_all(part: Path, pauses: list[float]) -> None:
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


def test_a_disk_that_takes_no_more_is_not_tried_again(server: FileServer, part: Path, pauses: list[float]) -> None:
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


def test_nothing_stays_beside_a_part_that_is_forgotten(server: FileServer, part: Path) -> None:
    fetch(server, part)
    assert json.loads(Path(f"{part}.json").read_text())["validator"] == '"v0"'
    forget(str(part))
    assert [path.name for path in part.parent.iterdir()] == ["a.part"]
    discard(str(part))
    assert not list(part.parent.iterdir())
