"""Small files: read, published whole, listed, deleted, whatever their names hold."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from tests.samples.buckets import BucketFileSystem
from transforms import files
from transforms.remote_listing import match_files
from transforms.scratch import scratch_folder

# Names that mean something to a shell, a pattern, a URL or JSON.
NAMES = ["plain", "a b", "50%", "%41", "[1]", "*", "a?", "käse", "quo'te", "new\nline", "#x", "~", "-x", "😀"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_taken_literally(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    path = files.join(str(folder), f"{name}.json")
    assert files.publish_bytes(path, [b"one ", b"two"]) == 7
    assert files.publish_bytes(path, [b"again"]) == 5
    assert files.read_bytes(path) == b"again"
    assert files.list_folder(str(folder)) == {f"{name}.json": 5}
    assert files.sha256_of(path) == hashlib.sha256(b"again").hexdigest()
    files.delete_files([path])
    assert files.list_folder(str(folder)) == {}


def test_deleting_a_name_like_a_pattern_spares_what_the_pattern_matches(tmp_path: Path) -> None:
    for folder in ("a*", "ab", "[a]b", "a?"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "manifest.json").write_text(folder)
    files.delete_files(str(tmp_path / folder / "manifest.json") for folder in ("a*", "[a]b", "a?"))
    assert [path.read_text() for path in tmp_path.rglob("manifest.json")] == ["ab"]


def test_a_remote_folder_that_cannot_be_listed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(patterns: list[str]) -> None:
        inner = BeamIOError("List operation failed", {patterns[0]: PermissionError("403 no storage.objects.list")})
        raise BeamIOError("Match operation failed", {patterns[0]: inner})

    def forbid() -> None:
        raise PermissionError("403 no storage.objects.list")

    monkeypatch.setattr(FileSystems, "match", fail)
    monkeypatch.setattr("transforms.remote_listing.gcs_client", forbid)
    for scheme in ("hdfs", "gs"):
        line = rf"^{scheme}://bucket/\*\.jpg: cannot be listed: 403 no storage\.objects\.list; check"
        with pytest.raises(OSError, match=line):
            match_files(f"{scheme}://bucket/*.jpg")


def test_a_remote_name_like_a_pattern_is_not_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    deleted: list[str] = []
    monkeypatch.setattr(FileSystems, "exists", lambda path: "missing" not in path)
    monkeypatch.setattr(FileSystems, "delete", deleted.extend)
    files.delete_files(["gs://bucket/a/1.json", "gs://bucket/missing*", "gs://bucket/missing"])
    assert deleted == ["gs://bucket/a/1.json"]
    for name in ("a*", "a?", "[a]"):
        with pytest.raises(OSError, match="would delete more than this"):
            files.delete_files(["gs://bucket/b/1.json", f"gs://bucket/{name}/1.json"])
    assert deleted == ["gs://bucket/a/1.json"]


def test_deleting_takes_links_and_missing_files_and_never_a_folder(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "deep").mkdir(parents=True)
    (kept / "deep" / "file").write_text("x")
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    names = ("link", "dangling", "missing", "missing/too", "kept/deep/file/below-a-file")
    files.delete_files(str(tmp_path / name) for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    with pytest.raises(IsADirectoryError):
        files.delete_files([str(kept)])
    assert (kept / "deep" / "file").read_text() == "x"


def test_temporaries_are_files_and_folders_of_that_prefix(tmp_path: Path) -> None:
    (tmp_path / ".tmp-a" / "deep").mkdir(parents=True)
    for name in (".tmp-b", "kept", ".tmp-1-data.mdb"):
        (tmp_path / name).write_text("x")
    files.delete_temporaries(str(tmp_path), suffix="-data.mdb")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp-a", ".tmp-b", "kept"]
    files.delete_temporaries(str(tmp_path))
    files.delete_temporaries(str(tmp_path / "missing"))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_local_file_is_renamed_into_its_place_and_a_remote_one_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BucketFileSystem, "folder", tmp_path)
    built = tmp_path / "built"
    built.write_bytes(b"12345")
    inode = built.stat().st_ino
    assert files.publish_file(str(built), str(tmp_path / "new" / "place")) == 5
    assert (tmp_path / "new" / "place").stat().st_ino == inode and not built.exists()
    assert files.publish_file(str(tmp_path / "new" / "place"), "bucket://there/place") == 5
    assert (tmp_path / "there" / "place").read_bytes() == b"12345"


def test_a_file_from_another_disk_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = tmp_path / "built"
    built.write_bytes(b"12345")

    def another_disk(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr("os.replace", another_disk)
    assert files.publish_file(str(built), str(tmp_path / "place")) == 5
    assert (tmp_path / "place").read_bytes() == b"12345"


def test_a_scratch_folder_replaces_what_a_killed_program_left(tmp_path: Path) -> None:
    (tmp_path / ".tmp-a.lmdb-1").mkdir()
    (tmp_path / ".tmp-b.lmdb-1").mkdir()
    (tmp_path / ".tmp-a.lmdb-2-1").mkdir()
    with scratch_folder(str(tmp_path), "a.lmdb") as scratch:
        assert os.path.dirname(scratch) == str(tmp_path) and os.listdir(scratch) == []
        assert sorted(os.listdir(tmp_path)) == sorted([os.path.basename(scratch), ".tmp-a.lmdb-2-1", ".tmp-b.lmdb-1"])
    assert sorted(os.listdir(tmp_path)) == [".tmp-a.lmdb-2-1", ".tmp-b.lmdb-1"]


def test_reading_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="expected a regular file, found a special file"):
        files.read_bytes(str(tmp_path / "fifo"))
    with pytest.raises(OSError, match="expected a regular file, found a directory"):
        files.read_bytes(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        files.read_bytes(str(tmp_path / "missing"))
    with pytest.raises(OSError, match="special file"):
        files.read_bytes("/dev/zero", limit=10)


def test_the_limit_is_the_longest_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert files.read_bytes(str(path), limit=5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        files.read_bytes(str(path), limit=4)


def test_a_compressed_file_is_read_as_it_is(tmp_path: Path) -> None:
    # Beam would unpack what is called .gz, and no checksum would fit.
    path = str(tmp_path / "file.gz")
    files.publish_bytes(path, [b"not gzip"])
    assert files.read_bytes(path) == b"not gzip"
    assert files.sha256_of(path) == hashlib.sha256(b"not gzip").hexdigest()


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        files.publish_bytes(str(path), chunks())
    assert path.read_text() == "before"
    left = [name for name in os.listdir(tmp_path) if name != "file"]
    assert all(name.startswith(files.TEMP_PREFIX) for name in left)


def test_an_empty_file_is_published_into_new_folders(tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "er" / "empty")
    assert files.publish_bytes(path, []) == 0
    assert files.read_bytes(path) == b""


def test_temporary_names_are_hidden_neighbours_and_never_equal(tmp_path: Path) -> None:
    names = {files.temp_name(str(tmp_path / "file.json")) for _ in range(100)}
    assert len(names) == 100
    for name in names:
        assert Path(name).parent == tmp_path
        assert Path(name).name.startswith(files.TEMP_PREFIX) and name.endswith("-file.json")


def test_listing_a_folder_names_its_files_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert files.list_folder(str(tmp_path)) == {"file": 3, "link": 3}
    assert files.list_folder(str(tmp_path / "missing")) == {}
    assert files.list_folder(str(tmp_path / "file")) == {}


def test_a_file_that_goes_while_its_folder_is_listed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("kept", "renamed"):
        (tmp_path / name).write_bytes(b"123")
    scandir = os.scandir

    @contextlib.contextmanager
    def slow_scandir(folder: str) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(folder) as entries:
            names = list(entries)
        (tmp_path / "renamed").unlink()  # as another thread that publishes a shard does
        yield names

    monkeypatch.setattr(os, "scandir", slow_scandir)
    assert files.list_folder(str(tmp_path)) == {"kept": 3}


def test_many_files_come_in_order(tmp_path: Path) -> None:
    paths = [str(tmp_path / str(number)) for number in range(40)]
    for number, path in enumerate(paths):
        files.publish_bytes(path, [str(number).encode()])
    assert files.read_many(paths) == [str(number).encode() for number in range(40)]
    assert files.read_many([]) == []
    with pytest.raises(FileNotFoundError):
        files.read_many([*paths, str(tmp_path / "missing")])


@pytest.mark.parametrize(
    ("path", "remote"),
    [("a/b.jpg", False), ("/a/b.jpg", False), ("gs://b/a.jpg", True), ("http://x/a.jpg", True), ("a:b/c.jpg", False)],
)
def test_remote_paths_have_a_scheme(path: str, remote: bool) -> None:
    assert files.is_remote(path) is remote


def test_a_remote_path_is_joined_with_slashes() -> None:
    assert files.join("gs://bucket/out", "tfrecord", "a.tfrecord") == "gs://bucket/out/tfrecord/a.tfrecord"
