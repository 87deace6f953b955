"""Unpacking archives: no file outside the target, none half-written, none damaged."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import pytest

from region_features.download.unzip import (
    UnpackedSizeError,
    check_archive,
    check_unpacked_size,
    list_files,
    unpack_file,
    unpack_folder,
)
from tests.conftest import tree_bytes
from tests.samples.zips import patched, with_directory_field, zip_bytes, zip_with_link

GOOD = [("a/", b""), ("a/1.jpg", b"one" * 1000), ("a/deep/2.jpg", b""), ("__MACOSX/._1.jpg", b"x"), ("a/ä.jpg", b"3")]
FILES = {"1.jpg": b"one" * 1000, "deep/2.jpg": b"", "ä.jpg": b"3"}


def put(folder: Path, data: bytes) -> str:
    path = folder / "a.zip"
    path.write_bytes(data)
    return str(path)


def unpack(path: str, folder: Path) -> int:
    return unpack_folder(path, str(folder), "a", lambda done, total: None)


def silent(done: int, total: int) -> None:
    """Show no progress."""


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_good_archive_is_checked_and_unpacked(tmp_path: Path, method: int) -> None:
    path = put(tmp_path, zip_bytes(GOOD, method))
    seen: list[tuple[int, int]] = []
    assert check_archive(path, lambda done, total: seen.append((done, total))) == len(list_files(path)) == 4
    assert seen[-1] == (3002, 3002)
    assert unpack(path, tmp_path / "out") == 3
    assert tree_bytes(tmp_path / "out") == {f"a/{name}": content for name, content in FILES.items()}


def test_a_whole_folder_is_left_alone(tmp_path: Path) -> None:
    path = put(tmp_path, zip_bytes(GOOD))
    unpack(path, tmp_path)
    before = (tmp_path / "a" / "1.jpg").stat()
    assert unpack(path, tmp_path) == 3
    after = (tmp_path / "a" / "1.jpg").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_folder_that_differs_from_the_archive_is_refused_and_kept(tmp_path: Path) -> None:
    path = put(tmp_path, zip_bytes(GOOD))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"half")
    with pytest.raises(
        ValueError, match=r"a: 3 of 3 files are missing or differ from the archive, 1\.jpg for one; move"
    ):
        unpack(path, tmp_path)
    assert tree_bytes(tmp_path / "a") == {"1.jpg": b"half"}


def test_the_files_of_a_killed_attempt_are_checked_and_completed(tmp_path: Path) -> None:
    path = put(tmp_path, zip_bytes(GOOD))
    work = tmp_path / ".tmp-a"
    (work / "deep").mkdir(parents=True)
    (work / "1.jpg").write_bytes(b"one" * 1000)
    (work / "ä.jpg").write_bytes(b"4")  # of the right size
    (work / "deep" / "stranger.jpg").write_bytes(b"of another archive")
    kept = (work / "1.jpg").stat()
    assert unpack(path, tmp_path) == 3
    assert tree_bytes(tmp_path / "a") == FILES
    assert (tmp_path / "a" / "1.jpg").stat().st_ino == kept.st_ino
    assert (tmp_path / "a" / "1.jpg").stat().st_mtime_ns == kept.st_mtime_ns
    assert not work.exists()


@pytest.mark.parametrize(
    "name",
    [
        "../1.jpg",
        "a/../../1.jpg",
        "/etc/1.jpg",
        "a//1.jpg",
        "a/./1.jpg",
        "b/1.jpg",
        "1.jpg",
        "a\\..\\1.jpg",
        "a/..\\1.jpg",
    ],
)
def test_an_entry_outside_its_folder_unpacks_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    path = put(tmp_path, zip_bytes([("a/good.jpg", b"x"), (name, b"evil")]))
    with pytest.raises(ValueError, match=r"expected plain files in a/, each once, got .*; nothing was unpacked"):
        unpack(path, tmp_path / "in")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["a.zip", "in"]


def test_links_and_repeated_names_are_refused(tmp_path: Path) -> None:
    for data in (zip_with_link("a/1.jpg", "/etc/passwd"), zip_bytes([("a/1.jpg", b"x"), ("a/1.jpg", b"y")])):
        with pytest.raises(ValueError, match=r"expected plain files in a/, each once, got 'a/1\.jpg'"):
            unpack(put(tmp_path, data), tmp_path / "in")


def test_an_archive_without_files_in_the_folder_is_refused(tmp_path: Path) -> None:
    for entries in ([], [("a/", b"")], [("__MACOSX/a", b"x")]):
        with pytest.raises(ValueError, match="expected files in a/, found none"):
            unpack(put(tmp_path, zip_bytes(entries)), tmp_path / "in")


def test_a_damaged_file_is_named_and_leaves_no_folder(tmp_path: Path) -> None:
    path = put(tmp_path, patched(zip_bytes(GOOD), b"oneone", b"oneOne"))
    for action in (lambda: check_archive(path, silent), lambda: unpack(path, tmp_path)):
        with pytest.raises(ValueError, match=r"a\.zip: damaged at a/1\.jpg: Bad CRC-32"):
            action()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_a_cut_archive_is_refused(tmp_path: Path, keep: int) -> None:
    path = put(tmp_path, zip_bytes(GOOD)[:keep])
    for action in (lambda: list_files(path), lambda: check_archive(path, silent), lambda: unpack(path, tmp_path)):
        with pytest.raises(ValueError, match=r"a\.zip: expected a zip archive, got: "):
            action()


def test_undecodable_encrypted_and_unknown_packings_are_damage(tmp_path: Path) -> None:
    packed = zip_bytes([("a/1.jpg", b"one" * 1000)], zipfile.ZIP_DEFLATED)
    content = zlib.compressobj(wbits=-15)
    start = packed.index(content.compress(b"one" * 1000) + content.flush())
    hurt = packed[:start] + b"\xff\xff" + packed[start + 2 :]
    locked = with_directory_field(zip_bytes([("a/1.jpg", b"one")]), 8, b"\x01\x00")
    unknown = with_directory_field(zip_bytes([("a/1.jpg", b"one")]), 10, b"\x63\x00")
    for data in (hurt, locked, unknown):
        with pytest.raises(ValueError, match=r"damaged at a/1\.jpg"):
            check_archive(put(tmp_path, data), silent)


def test_an_archive_larger_than_the_disk_is_refused_before_unpacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path, zip_bytes([("a/1.jpg", bytes(1_000_000))], zipfile.ZIP_DEFLATED))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 999_999))
    with pytest.raises(OSError, match=r"expected 0\.00 GB of free disk"):
        unpack(path, tmp_path)
    assert tree_bytes(tmp_path) == {"a.zip": Path(path).read_bytes()}
    with pytest.raises(OSError, match="make room"):
        unpack_file(path, "1.jpg", str(tmp_path))


def test_a_file_longer_than_declared_is_damage(tmp_path: Path) -> None:
    data = zip_bytes([("a/1.jpg", bytes(1_000_000))], zipfile.ZIP_DEFLATED)
    path = put(tmp_path, with_directory_field(data, 24, struct.pack("<I", 10)))
    with pytest.raises(ValueError, match=r"damaged at a/1\.jpg"):
        unpack(path, tmp_path)
    assert (tmp_path / ".tmp-a" / "1.jpg").stat().st_size <= 10


def test_an_archive_that_says_it_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    bomb = with_directory_field(zip_bytes([("a/1.jpg", b"x")]), 24, struct.pack("<I", 2_000_000_000))
    path = put(tmp_path, bomb)
    words = rf"{path}: expected an archive that unpacks to at most 1\.0 GB, got 2\.0 GB from 0\.000 GB"
    with pytest.raises(UnpackedSizeError, match=words):
        check_unpacked_size(path)
    with pytest.raises(UnpackedSizeError, match=r"at most 2\.0 GB, got 2\.0 GB"):
        check_unpacked_size(path, 1_999_999_999)
    check_unpacked_size(path, 2_000_000_000)
    with pytest.raises(ValueError, match=r"a\.zip: expected a zip archive, got: "):
        check_unpacked_size(put(tmp_path, b"no zip"))


@pytest.mark.parametrize(
    ("packed", "unpacked", "fits"),
    [
        (13_500_000_000, 13_600_000_000, True),  # train2014.zip
        (37_000_000, 190_000_000, True),  # caption_datasets.zip
        (37_000_000, 1_000_000_000, True),
        (37_000_000, 1_000_000_001, False),
        (1_000_000_000, 20_000_000_000, True),
        (1_000_000_000, 20_000_000_001, False),
        (60_000_000_000, 64_000_000_001, False),
    ],
)
def test_the_default_limit_is_a_ratio_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: int, unpacked: int, fits: bool
) -> None:
    path = put(tmp_path, b"")
    info = zipfile.ZipInfo("a/1.jpg")
    info.file_size = unpacked
    monkeypatch.setattr("region_features.download.unzip.list_files", lambda _: [info])
    os.truncate(path, packed)
    with contextlib.nullcontext() if fits else pytest.raises(UnpackedSizeError):
        check_unpacked_size(path)


def test_no_more_bytes_are_unpacked_than_the_directory_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, zip_bytes([("a/1.jpg", b"x")]))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: BytesIO(bytes(10_000_000)))
    with pytest.raises(ValueError, match=r"damaged at a/1\.jpg: .* for the 1 it declares"):
        unpack(path, tmp_path)
    assert (tmp_path / ".tmp-a" / "1.jpg").stat().st_size == 0


def test_one_file_is_unpacked_from_any_folder_of_an_archive(tmp_path: Path) -> None:
    path = put(tmp_path, zip_bytes([("x.json", b"other"), ("in/d.json", b"{}")], zipfile.ZIP_DEFLATED))
    unpack_file(path, "d.json", str(tmp_path))
    assert (tmp_path / "d.json").read_bytes() == b"{}"
    unpack_file(path, "d.json", str(tmp_path))
    (tmp_path / "d.json").write_bytes(b"[]")
    with pytest.raises(ValueError, match=r"d\.json: expected the file of .*a\.zip, found another one; move it away"):
        unpack_file(path, "d.json", str(tmp_path))
    with pytest.raises(ValueError, match=r"expected one file e\.json in it, found 0"):
        unpack_file(path, "e.json", str(tmp_path))
    assert tree_bytes(tmp_path) == {"a.zip": Path(path).read_bytes(), "d.json": b"[]"}
