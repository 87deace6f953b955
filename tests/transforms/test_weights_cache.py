"""Weights over HTTP: cached, resumed and checked; unsafe addresses are refused."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from beam_pipeline.pipeline import main
from beam_pipeline.weights.command import main as inspect_weights
from region_features.download.http import DownloadError
from tests.conftest import TINY_WEIGHTS, tree_bytes, write_photo
from tests.samples.file_server import Answer, FileServer, serving
from tests.samples.pinned import pin
from transforms.detection import check_weights
from transforms.input_files import PinnedFile
from transforms.weights_cache import cache_folder, fetch, local_copy, pinned_copy, split_url

FILE = np.random.default_rng(2).bytes(3_000_000)
OTHER = np.random.default_rng(3).bytes(2_500_000)
ZEROS = "0" * 64


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FileServer]:
    """Serve weights on this machine, with an empty cache, no pauses and no proxy."""
    monkeypatch.setattr("region_features.download.http.sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving() as state:
        state.files["/w.pth"] = FILE
        yield state


def get(server: FileServer, fragment: str = "", path: str = "/w.pth") -> Path:
    return Path(fetch(f"{server.base}{path}{fragment}", lambda line: None))


def kept() -> list[str]:
    """Return the files in the cache, the locks left out."""
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


def test_a_cut_download_is_resumed(server: FileServer) -> None:
    server.script = [Answer(cut=1_000_000)]
    assert get(server, f"#sha256={sha256(FILE)}").read_bytes() == FILE
    assert [(asked, status) for _, asked, status in server.log] == [(None, 200), ("bytes=1000000-", 206)]


def test_a_later_run_resumes_an_earlier_download(server: FileServer) -> None:
    server.script = [Answer(cut=1_000_000), *[Answer(status=503)] * 20]
    with pytest.raises(DownloadError, match="503"):
        get(server)
    assert kept() != []
    server.script, server.log = [], []
    assert get(server).read_bytes() == FILE
    assert [(asked, status) for _, asked, status in server.log] == [("bytes=1000000-", 206)]
    assert len(kept()) == 1


@pytest.mark.parametrize("careless", [False, True])
def test_a_file_that_changed_between_tries_starts_over(server: FileServer, careless: bool) -> None:
    server.script = [Answer(cut=1_000_000), Answer(change=OTHER, careless=careless)]
    assert get(server).read_bytes() == OTHER
    assert len(kept()) == 1


def test_a_server_without_ranges_sends_the_whole_file_again(server: FileServer) -> None:
    server.script = [Answer(cut=1_000_000), Answer(whole=True)]
    assert get(server).read_bytes() == FILE
    assert [status for _, _, status in server.log] == [200, 200]


def test_a_file_without_a_version_is_not_resumed(server: FileServer) -> None:
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


def test_an_entry_with_another_hash_is_replaced(server: FileServer) -> None:
    get(server)
    server.files["/w.pth"] = OTHER
    assert get(server, f"#sha256={sha256(OTHER).upper()}").read_bytes() == OTHER
    with pytest.raises(DownloadError, match="expected SHA-256"):
        get(server, f"#sha256={sha256(FILE)}")
    assert kept() == []


def test_a_file_shorter_than_its_declared_length_is_an_error(server: FileServer) -> None:
    server.script = [Answer(extra=10, whole=True)] * 30
    with pytest.raises(DownloadError, match="expected 3000010 bytes, got 3000000"):
        get(server)
    assert not [name for name in kept() if name.endswith(".pth")]


def test_a_file_of_unknown_length_needs_a_hash(server: FileServer) -> None:
    server.length = False
    with pytest.raises(DownloadError, match="does not say how long the file is"):
        get(server)
    assert kept() == []
    assert get(server, f"#sha256={sha256(FILE)}").read_bytes() == FILE


def test_a_missing_file_is_not_retried(server: FileServer) -> None:
    with pytest.raises(DownloadError, match=r"/none\.pth: expected the file, the server answers 404"):
        get(server, path="/none.pth")
    assert len(server.log) == 1 and kept() == []


def test_users_of_the_same_weights_share_one_download(server: FileServer) -> None:
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(get(server))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 1 and len(paths) == 4 and len(server.log) == 1


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
def test_unsafe_and_malformed_addresses_are_refused(uri: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        split_url(uri)
    assert str(raised.value).startswith(uri)


def test_an_address_is_split_from_its_hash() -> None:
    digest = sha256(b"")
    assert split_url("https://a.org/w?x=1") == ("https://a.org/w?x=1", None)
    assert split_url(f"https://a.org/w#sha256={digest.upper()}") == ("https://a.org/w", digest)
    assert split_url("http://127.0.0.1:8/w") == ("http://127.0.0.1:8/w", None)


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == str(tmp_path / ".cache" / "region-features")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert cache_folder() == str(tmp_path / "mine" / "region-features")


def test_local_weights_are_not_copied(tmp_path: Path) -> None:
    with local_copy(str(tmp_path / "w#1.pth")) as path:
        assert path == str(tmp_path / "w#1.pth")


def test_weights_replaced_after_the_check_are_refused(tmp_path: Path, server: FileServer) -> None:
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"checked")
    checked = pin(weights)
    with pinned_copy(checked) as path:
        assert path == str(weights)
    with pytest.raises(ValueError, match=r"w\.pth: expected the content that was checked"), pinned_copy(checked):
        weights.write_bytes(b"swapped while they were read")
    with pytest.raises(ValueError, match=r"w\.pth: expected the content that was checked"), pinned_copy(checked):
        pass
    server.files["/w"] = b"checked"
    address = PinnedFile(f"{server.base}/w", sha256(b"checked"))
    with pinned_copy(address) as path:
        assert Path(path).read_bytes() == b"checked"
    server.files["/w"] = b"replaced"
    with pinned_copy(address) as path:
        assert Path(path).read_bytes() == b"checked"


def test_weights_of_an_address_are_checked_like_a_file(server: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.files["/tiny"] = TINY_WEIGHTS.read_bytes()
    facts = check_weights(f"{server.base}/tiny#sha256={sha256(TINY_WEIGHTS.read_bytes())}")
    assert facts == check_weights(str(TINY_WEIGHTS)) and (facts.format, facts.attributes) == ("caffemodel", True)
    assert capsys.readouterr().err.startswith(f"note: fetching {server.base}/tiny into ")
    server.files["/short"] = TINY_WEIGHTS.read_bytes()[:1000]
    with pytest.raises(ValueError, match=f"^{server.base}/short: "):
        check_weights(f"{server.base}/short")


SECRET = "hunter2"


@pytest.mark.parametrize("content", [b"", b"no weights", TINY_WEIGHTS.read_bytes()])
@pytest.mark.parametrize("name", ["/w", "/gone"])
def test_a_secret_in_an_address_reaches_no_output(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    server.files[f"/w?signature={SECRET}"] = content
    address = server.base.replace("://", f"://user:{SECRET}@") if name == "/w" else server.base
    flags = ["--images", str(tmp_path), "--output", str(tmp_path / "out")]
    write_photo(tmp_path / "a.png", 1)
    weights = f"{address}{name}?signature={SECRET}"
    for uri in (weights, f"{weights}#sha256={'0' * 64}", f"{weights}#md5=1"):
        main([*flags, "--weights", uri])
        inspect_weights(["inspect", uri])
    printed = "".join(capsys.readouterr())
    assert name in printed and SECRET not in printed
    assert all(SECRET.encode() not in data for data in tree_bytes(tmp_path).values())
