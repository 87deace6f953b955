"""Weights from the web: kept, resumed, checked; and what is no address of weights."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from email.message import Message
from io import BytesIO
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request

import numpy as np
import pytest

from region_features.download.http import DownloadError, SecureRedirects
from tests.conftest import TINY_WEIGHTS
from tests.samples.file_server import Answer, FileServer, serving
from transforms.detection import check_weights
from transforms.weights_cache import cache_folder, fetch, local_copy, pinned, split_url

FILE = np.random.default_rng(2).bytes(3_000_000)
OTHER = np.random.default_rng(3).bytes(2_500_000)
ZEROS = "0" * 64


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FileServer]:
    """A server with weights; the cache is new, pauses take no time, no proxy stands between."""
    monkeypatch.setattr("region_features.download.http.time.sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving() as state:
        state.files["/w.pth"] = FILE
        yield state


def get(server: FileServer, fragment: str = "", path: str = "/w.pth") -> Path:
    return Path(fetch(f"{server.base}{path}{fragment}", lambda line: None))


def kept() -> list[str]:
    """The cache's files, locks aside."""
    return sorted(path.name for path in Path(cache_folder()).iterdir() if path.suffix != ".lock")


def test_weights_are_fetched_once(server: FileServer) -> None:
    notes: list[str] = []
    path = Path(fetch(f"{server.base}/w.pth", notes.append))
    assert path.read_bytes() == FILE and path.name.endswith("-w.pth") and kept() == [path.name]
    assert notes == [f"fetching {server.base}/w.pth into {cache_folder()}: 0 of 3000000 bytes are there"]
    server.files["/w.pth"] = OTHER
    assert get(server) == path and path.read_bytes() == FILE
    assert get(server, f"#sha256={sha256(FILE)}") == path
    assert len(server.log) == 1


def test_two_addresses_are_two_entries(server: FileServer) -> None:
    server.files["/other/w.pth"] = OTHER
    assert get(server).read_bytes() == FILE
    assert get(server, path="/other/w.pth").read_bytes() == OTHER
    assert len(kept()) == 2


def test_a_cut_connection_goes_on(server: FileServer) -> None:
    server.script = [Answer(cut=1_000_000)]
    assert get(server, f"#sha256={sha256(FILE)}").read_bytes() == FILE
    assert [(asked, status) for _, asked, status in server.log] == [(None, 200), ("bytes=1000000-", 206)]


def test_a_later_run_goes_on_where_an_earlier_one_was_cut(server: FileServer) -> None:
    server.script = [Answer(cut=1_000_000), *[Answer(status=503)] * 20]
    with pytest.raises(DownloadError, match="503"):
        get(server)
    assert kept() != []
    server.script, server.log = [], []
    assert get(server).read_bytes() == FILE
    assert [(asked, status) for _, asked, status in server.log] == [("bytes=1000000-", 206)]
    assert len(kept()) == 1


@pytest.mark.parametrize("careless", [False, True])
def test_a_file_that_changed_between_tries_is_begun_anew(server: FileServer, careless: bool) -> None:
    server.script = [Answer(cut=1_000_000), Answer(change=OTHER, careless=careless)]
    assert get(server).read_bytes() == OTHER
    assert len(kept()) == 1


def test_a_server_without_ranges_sends_it_all_again(server: FileServer) -> None:
    server.script = [Answer(cut=1_000_000), Answer(whole=True)]
    assert get(server).read_bytes() == FILE
    assert [status for _, _, status in server.log] == [200, 200]


def test_a_server_without_versions_is_not_resumed(server: FileServer) -> None:
    server.tags = ""
    server.script = [Answer(cut=1_000_000)]
    assert get(server).read_bytes() == FILE
    assert [asked for _, asked, _ in server.log] == [None, None]


def test_a_wrong_hash_is_an_error_and_nothing_is_kept(server: FileServer) -> None:
    for _ in range(2):
        with pytest.raises(DownloadError, match=f"expected SHA-256 {ZEROS}, got {sha256(FILE)}"):
            get(server, f"#sha256={ZEROS}")
        assert kept() == []
    assert len(server.log) == 2


def test_an_entry_of_an_earlier_file_gives_way_to_the_one_that_is_asked_for(server: FileServer) -> None:
    get(server)
    server.files["/w.pth"] = OTHER
    assert get(server, f"#sha256={sha256(OTHER).upper()}").read_bytes() == OTHER
    with pytest.raises(DownloadError, match="expected SHA-256"):
        get(server, f"#sha256={sha256(FILE)}")
    assert kept() == []


def test_a_length_that_is_not_kept_is_an_error(server: FileServer) -> None:
    server.script = [Answer(extra=10, whole=True)] * 30
    with pytest.raises(DownloadError, match="expected 3000010 bytes, got 3000000"):
        get(server)
    assert not [name for name in kept() if name.endswith(".pth")]


def test_without_a_length_only_a_hash_tells_that_it_is_whole(server: FileServer) -> None:
    server.length = False
    with pytest.raises(DownloadError, match="does not say how long the file is"):
        get(server)
    assert kept() == []
    assert get(server, f"#sha256={sha256(FILE)}").read_bytes() == FILE


def test_what_is_not_there_is_told_at_once(server: FileServer) -> None:
    with pytest.raises(DownloadError, match=r"/none\.pth: expected the file, the server answers 404"):
        get(server, path="/none.pth")
    assert len(server.log) == 1 and kept() == []


def test_processes_that_want_the_same_weights_share_one_download(server: FileServer) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(get(server))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 4 and len(server.log) == 1


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://example.org/w.pth", "expected https://"),
        ("http://localhost.example.org/w.pth", "expected https://"),
        ("https:///w.pth", "got no host"),
        ("https://example.org/w.pth#md5=00", "64 hex digits"),
        ("https://example.org/w.pth#sha256=12", "64 hex digits"),
        (f"https://example.org/w.pth#sha256={ZEROS}0", "64 hex digits"),
    ],
)
def test_addresses_that_are_refused(uri: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        split_url(uri)
    assert str(raised.value).startswith(uri)


def test_addresses_and_their_hashes() -> None:
    digest = sha256(b"")
    assert split_url("https://a.org/w?x=1") == ("https://a.org/w?x=1", None)
    assert split_url(f"https://a.org/w#sha256={digest.upper()}") == ("https://a.org/w", digest)
    assert split_url("http://127.0.0.1:8/w") == ("http://127.0.0.1:8/w", None)
    assert pinned("https://a.org/w", digest) == f"https://a.org/w#sha256={digest}"
    assert pinned("https://a.org/w#sha256=" + digest, digest) == f"https://a.org/w#sha256={digest}"
    assert pinned("https://a.org/w", None) == "https://a.org/w"
    assert pinned("local#file", digest) == "local#file" and pinned("gs://b/w", digest) == "gs://b/w"


def test_redirects_never_leave_https() -> None:
    def redirect(start: str, to: str) -> Request | None:
        return SecureRedirects().redirect_request(Request(start), BytesIO(), 302, "Found", Message(), to)

    found = redirect("https://a.org/w", "https://cdn.org/w?signed")
    assert found is not None and found.full_url == "https://cdn.org/w?signed"
    assert redirect("http://127.0.0.1/w", "http://127.0.0.1/v") is not None
    for to in ("http://cdn.org/w", "ftp://cdn.org/w"):
        with pytest.raises(HTTPError, match="which is not https"):
            redirect("https://a.org/w", to)


def test_the_cache_lies_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == str(tmp_path / ".cache" / "region-features")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert cache_folder() == str(tmp_path / "mine" / "region-features")


def test_local_weights_stay_where_they_are(tmp_path: Path) -> None:
    with local_copy(str(tmp_path / "w#1.pth")) as path:
        assert path == str(tmp_path / "w#1.pth")


def test_weights_of_an_address_are_checked_like_a_file(server: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.files["/tiny"] = TINY_WEIGHTS.read_bytes()
    facts = check_weights(f"{server.base}/tiny#sha256={sha256(TINY_WEIGHTS.read_bytes())}")
    assert facts == check_weights(str(TINY_WEIGHTS)) and (facts.format, facts.attributes) == ("caffemodel", True)
    assert capsys.readouterr().err.startswith(f"note: fetching {server.base}/tiny into ")
    server.files["/short"] = TINY_WEIGHTS.read_bytes()[:1000]
    with pytest.raises(ValueError, match=f"^{server.base}/short: "):
        check_weights(f"{server.base}/short")
