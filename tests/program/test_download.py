"""Archives from a server on this machine become a corpus that the pipeline reads."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_pipeline.download.command import LOCK_FILE, main, parse_args
from beam_pipeline.pipeline import main as run_pipeline
from beam_pipeline.process import Terminated
from beam_pipeline.usage import UsageError
from region_features.records.coco import ARCHIVES
from tests.conftest import TINY_WEIGHTS, tree_bytes
from tests.samples.fakes import FakeHandler, fake_prepare
from tests.samples.file_server import Answer, FileServer, serving
from tests.samples.zips import patched, with_directory_field, zip_bytes, zip_folder

SETS = ("train2014", "val2014", "test2015")


@pytest.fixture
def server(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Serve a mirror of the small corpus; pauses take no time."""
    monkeypatch.setattr("region_features.download.http.sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "*")
    with serving() as state:
        for name in SETS:
            state.files[f"/coco/{name}.zip"] = zip_folder(corpus / "images" / name, f"{name}/")
        captions = (corpus / "dataset_coco.json").read_bytes()
        state.files["/coco/caption_datasets.zip"] = zip_bytes(
            [("dataset_flickr8k.json", b"{}"), ("dataset_coco.json", captions)]
        )
        yield state


def fetch(server: FileServer, folder: Path, *flags: str) -> int:
    return main(["--corpus", str(folder), "--base_url", f"{server.base}/coco/", *flags])


def names(folder: Path) -> list[str]:
    """Return the names in a corpus folder, the lock left out."""
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK_FILE)


def test_fetched_and_unpacked_archives_are_the_corpus(
    server: FileServer, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "mscoco"
    assert fetch(server, folder, "--unzip") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "train2014.zip: 7 files" in captured.out and f"{folder}/images/train2014: 7 images" in captured.out
    archives = {f"{archive.name}.zip" for archive in ARCHIVES}
    assert set(names(folder)) == {*archives, "dataset_coco.json", "images"}
    assert tree_bytes(folder / "images") == tree_bytes(corpus / "images")
    for path in server.files:
        assert (folder / Path(path).name).read_bytes() == server.files[path]

    flags = ["--weights", str(TINY_WEIGHTS), "--num_shards", "2"]
    for source, name in ((corpus, "a"), (folder, "b")):
        argv = ["--corpus", str(source), "--output", str(tmp_path / name), *flags]
        assert run_pipeline(argv, FakeHandler(), fake_prepare) == 0
    shards = sorted((tmp_path / "a" / "tfrecord").glob("*.tfrecord"))
    assert len(shards) == 6
    for shard in shards:
        assert shard.read_bytes() == (tmp_path / "b" / "tfrecord" / shard.name).read_bytes()


def test_whole_files_are_skipped_without_a_request(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(server, tmp_path / "c") == 0
    assert not (tmp_path / "c" / "images").exists()
    server.log.clear()
    before = tree_bytes(tmp_path / "c")
    assert fetch(server, tmp_path / "c") == 0
    assert fetch(server, tmp_path / "c", "--unzip") == 0
    assert fetch(server, tmp_path / "c", "--unzip") == 0
    for name in before:
        (tmp_path / "c" / name).unlink()
    assert fetch(server, tmp_path / "c", "--unzip") == 0
    assert server.log == []
    assert names(tmp_path / "c") == ["dataset_coco.json", "images"]
    assert f"{tmp_path}/c/images/val2014: is there" in capsys.readouterr().out


def test_a_download_that_is_cut_off_is_resumed_with_a_note(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = [Answer(), Answer(cut=1000), Answer(status=503), Answer(cut=500)]
    assert fetch(server, tmp_path / "c", "--only", "val2014") == 0
    assert [asked for _, asked, _ in server.log] == [None, None, "bytes=1000-", "bytes=1000-", "bytes=1500-"]
    assert names(tmp_path / "c") == ["val2014.zip"]
    assert (tmp_path / "c" / "val2014.zip").read_bytes() == server.files["/coco/val2014.zip"]
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3 and all("trying again in" in line for line in errors)


def test_a_file_that_changed_between_tries_starts_over(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    other = zip_folder(corpus / "images" / "test2015", "val2014/")
    server.script = [Answer(), Answer(cut=1000), Answer(change=other)]
    assert fetch(server, tmp_path / "c", "--only", "val2014") == 0
    assert (tmp_path / "c" / "val2014.zip").read_bytes() == other


def test_an_archive_that_the_server_lacks_is_named_before_any_download(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del server.files["/coco/test2015.zip"]
    assert fetch(server, tmp_path / "c") == 1
    error = capsys.readouterr().err
    assert "test2015.zip: expected the file, the server answers 404" in error and len(error.splitlines()) == 1
    assert names(tmp_path / "c") == []  # all sizes are requested before the first download


def test_a_damaged_archive_is_deleted_and_downloaded_again_by_the_next_run(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = server.files["/coco/caption_datasets.zip"]
    for bad, words in (
        (patched(good, b'"coco"', b'"c0c0"'), "damaged at dataset_coco.json: Bad CRC-32"),
        (good[:-100], "expected a zip archive, got: File is not a zip file"),
        (b"<html>Sign in first</html>", "expected a zip archive"),
        (b"", "expected a zip archive"),
    ):
        server.files["/coco/caption_datasets.zip"] = bad
        assert fetch(server, tmp_path / "c", "--only", "caption_datasets", "--unzip") == 1
        error = capsys.readouterr().err
        assert words in error and "run the same command again to fetch it anew" in error
        assert len(error.splitlines()) == 1
        assert names(tmp_path / "c") == []
    server.files["/coco/caption_datasets.zip"] = good
    assert fetch(server, tmp_path / "c", "--only", "caption_datasets", "--unzip") == 0


def test_a_hostile_archive_is_not_unpacked(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["/coco/val2014.zip"] = zip_bytes([("val2014/1.jpg", b"x"), ("../../evil.jpg", b"evil")])
    assert fetch(server, tmp_path / "c", "--only", "val2014", "--unzip") == 1
    assert "expected plain files in val2014/, each once, got '../../evil.jpg'" in capsys.readouterr().err
    assert names(tmp_path / "c") == ["val2014.zip"]
    assert not list(tmp_path.rglob("evil.jpg"))


def test_an_archive_that_unpacks_to_too_much_is_kept_for_a_run_with_a_higher_limit(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bomb = with_directory_field(server.files["/coco/val2014.zip"], 24, struct.pack("<I", 2_000_000_000))
    server.files["/coco/val2014.zip"] = bomb
    assert fetch(server, tmp_path / "c", "--only", "val2014", "--unzip") == 1
    error = capsys.readouterr().err
    assert "val2014.zip.part: expected an archive that unpacks to at most 1.0 GB, got 2.0 GB" in error
    assert "raise --max_unpacked_gb if you trust it" in error and len(error.splitlines()) == 1
    assert names(tmp_path / "c") == [".tmp-val2014.zip.part", ".tmp-val2014.zip.part.json"]
    server.log.clear()
    # The higher limit lets it through to the check of its content, which differs from what its directory says.
    assert fetch(server, tmp_path / "c", "--only", "val2014", "--max_unpacked_gb", "3") == 1
    assert "damaged at val2014/" in capsys.readouterr().err
    assert len(server.log) == 1  # only its size is requested: it had been downloaded

    (tmp_path / "c" / "val2014.zip").write_bytes(bomb)
    assert fetch(server, tmp_path / "c", "--only", "val2014", "--unzip") == 1
    assert f"{tmp_path}/c/val2014.zip: expected an archive that unpacks to at most" in capsys.readouterr().err
    assert names(tmp_path / "c") == ["val2014.zip"]


def test_a_damaged_archive_from_elsewhere_is_named_and_kept(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "val2014.zip").write_bytes(server.files["/coco/val2014.zip"][:-50])
    assert fetch(server, tmp_path, "--only", "val2014") == 1
    assert "val2014.zip: expected a zip archive, got: File is not a zip file; delete it" in capsys.readouterr().err
    assert server.log == []


def test_too_small_a_disk_is_refused_before_any_download(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(map(len, server.files.values()))
    usage = type("Usage", (), {})()
    monkeypatch.setattr("region_features.download.unzip.shutil.disk_usage", lambda folder: usage)
    for flags, needed in (((), size), (("--unzip",), 2 * size)):
        usage.free = needed - 1
        assert fetch(server, tmp_path / "c", *flags) == 1
        error = capsys.readouterr().err
        assert f"{tmp_path}/c: expected" in error and "GB of free disk" in error and len(error.splitlines()) == 1
        assert names(tmp_path / "c") == []
    usage.free = size
    assert fetch(server, tmp_path / "c") == 0


def test_a_killed_download_is_resumed(server: FileServer, tmp_path: Path) -> None:
    big = zip_bytes([("val2014/1.jpg", os.urandom(30_000_000))])
    server.files["/coco/val2014.zip"] = big
    server.script = [Answer(), Answer(cut=20_000_000), *[Answer(status=503)] * 3]
    flags = ["--corpus", str(tmp_path / "c"), "--base_url", f"{server.base}/coco", "--only", "val2014"]
    process = subprocess.Popen([sys.executable, "-m", "beam_pipeline.download", *flags], stderr=subprocess.PIPE)
    while len(server.log) < 4:  # it now waits 2 s before its next try
        time.sleep(0.01)
    second = subprocess.run([sys.executable, "-m", "beam_pipeline.download", *flags], capture_output=True, text=True)
    assert second.returncode == 1 and "another download is writing to it" in second.stderr
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert names(tmp_path / "c") == [".tmp-val2014.zip.part", ".tmp-val2014.zip.part.json"]
    server.script.clear()
    server.log.clear()
    assert main(flags) == 0
    assert server.log == [("/coco/val2014.zip", None, 200), ("/coco/val2014.zip", "bytes=20000000-", 206)]
    assert names(tmp_path / "c") == ["val2014.zip"]
    assert (tmp_path / "c" / "val2014.zip").read_bytes() == big


@pytest.mark.parametrize(
    ("signal_of", "word", "status"), [(KeyboardInterrupt, "interrupted", 130), (Terminated, "terminated", 143)]
)
def test_a_stopped_download_ends_with_one_line_and_is_resumed(
    signal_of: type[BaseException],
    word: str,
    status: int,
    server: FileServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object) -> None:
        raise signal_of

    monkeypatch.setattr("beam_pipeline.download.command.check_archive", stop)
    assert fetch(server, tmp_path / "c", "--only", "val2014") == status
    assert capsys.readouterr().err == f"download: {word}; run the same command again to go on\n"
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "*")
    server.log.clear()
    assert fetch(server, tmp_path / "c", "--only", "val2014") == 0
    assert len(server.log) == 1  # only its size is requested: it had been downloaded


def test_a_folder_that_cannot_be_written_is_named(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    assert fetch(server, tmp_path / "file" / "c") == 1
    error = capsys.readouterr().err
    assert f"--corpus {tmp_path}/file/c: " in error and "Not a directory" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--corpus DIR is missing"),
        (["--corpus", ""], "--corpus: expected a path, got nothing; is a variable of your shell unset?"),
        (["--corpus", "gs://bucket/coco"], "expected a local folder; fetch there, then copy it up"),
        (
            ["--corpus", "c", "--only", "train2017"],
            "test2015, train2014, got 'train2017'; did you mean train2014?",
        ),
        (["--corpus", "c", "--only"], "--only: expected a value after it, got none"),
        (["--corpus", "c", "--max_unpacked_gb", "0"], "expected a whole number of at least 1, got '0'"),
        (["--corpus", "c", "--max_unpacked_gb", "much"], "expected a whole number of at least 1, got 'much'"),
        (["--corpus", "c", "--zip"], "unknown flag --zip; did you mean --unzip?"),
        (
            ["--corpus", "c", "--base_url", "file:///etc"],
            "expected http://HOST/PATH or https://HOST/PATH, got 'file:///etc'",
        ),
        (["--corpus", "c", "--base_url", "mirror.org/coco"], "expected http://HOST/PATH"),
        (["--corpus", "c", "--base_url", "http://mirror/a b"], "expected http://HOST/PATH"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_archives_come_from_the_official_addresses() -> None:
    options = parse_args(["--corpus", "c", "--only", "train2014", "caption_datasets"])
    assert [archive.url for archive in options.archives] == [
        "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
        "http://images.cocodataset.org/zips/train2014.zip",
    ]
    assert [archive.name for archive in parse_args(["--corpus", "c"]).archives] == [
        archive.name for archive in ARCHIVES
    ]
    with pytest.raises(UsageError):
        parse_args(["--corpus", "c", "--only", "captions"])
