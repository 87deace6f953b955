"""Images in zip archives: listed once, read by several threads, with the same records as from a folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from region_features.images.zip_archive import split_zip_uri
from region_features.records.failure import ImageFailure
from region_features.records.plan import ImageRef
from tests.conftest import write_photo
from tests.samples.listing import listed
from tests.samples.program import run
from tests.samples.zips import patched, with_directory_field, zip_bytes, zip_folder
from transforms import files
from transforms.images import read_image

LIMIT = 10**6


def photo_bytes(seed: int, suffix: str = ".png") -> bytes:
    path = Path(f".photo{suffix}")
    write_photo(path, seed)
    data = path.read_bytes()
    path.unlink()
    return data


def unlisted(uri: str) -> ImageRef:
    return ImageRef("photos", "a", uri, -1)


def failure_of(uri: str, limit: int = LIMIT) -> tuple[str, str]:
    with pytest.raises(ImageFailure) as caught:
        read_image(unlisted(uri), limit)
    return caught.value.stage, caught.value.reason


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("a.zip!/b/c.jpg", ("a.zip", "b/c.jpg")),
        ("gs://x/A.ZIP!/c.jpg", ("gs://x/A.ZIP", "c.jpg")),
        ("a.zip!/b.zip!/c.jpg", ("a.zip", "b.zip!/c.jpg")),
        ("a.zip!//c.jpg", ("a.zip", "/c.jpg")),
        ("a.zip!/x\n.jpg", ("a.zip", "x\n.jpg")),
        ("a.zip", None),
        ("a.zip!/", None),
        ("a.zip/c.jpg", None),
        ("a!/c.jpg", None),
    ],
)
def test_the_uri_of_an_entry_is_split_at_its_archive(uri: str, parts: tuple[str, str] | None) -> None:
    assert split_zip_uri(uri) == parts


def entry(set_name: str, img_id: str, name: str) -> ImageRef:
    """The image of an entry whose content is its name."""
    return ImageRef(set_name, img_id, f"photos.zip!/{name}", len(name.encode()), f"{zlib.crc32(name.encode()):08x}")


def test_an_archives_images_are_sorted_and_its_other_files_noted(here: Path) -> None:
    names = [
        "b/2.jpg",
        "b/1.PNG",
        "top.jpg",
        "b/",
        "deep/er/3.jpg",
        "folder.jpg/",
        "b/.4.jpg",
        ".h/5.jpg",
        "b/notes.txt",
    ]
    entries = [
        (name, b"" if name.endswith("/") else name.encode()) for name in [*names, "__MACOSX/b/._1.jpg", "ä😀.jpg"]
    ]
    Path("photos.zip").write_bytes(zip_bytes(entries))
    listing = listed(["photos.zip"])
    assert listing.refs == (
        entry("b", "1", "b/1.PNG"),
        entry("b", "2", "b/2.jpg"),
        entry("er", "3", "deep/er/3.jpg"),
        entry("photos", "top", "top.jpg"),
        entry("photos", "ä😀", "ä😀.jpg"),
    )
    assert listing.notes == ("photos.zip: 4 files are no images by their extension, .h/5.jpg for one",)


def test_archives_are_found_by_name_pattern_and_list(here: Path) -> None:
    for number in (1, 2):
        Path(f"part{number}.zip").write_bytes(zip_bytes([(f"set/{number}.jpg", b"xx")]))
    write_photo(here / "photos" / "9.jpg", 9)
    both = ["part1.zip!/set/1.jpg", "part2.zip!/set/2.jpg"]
    Path("list.txt").write_text("part2.zip\nphotos/9.jpg\npart1.zip!/set/1.jpg\npart1.zip!/set/gone[1].jpg\n")
    for sources, expected in (
        (["part1.zip", "part2.zip"], both),
        (["*.zip"], both),
        (["part?.zip", "photos"], [*both, "photos/9.jpg"]),
        (["part2.zip!/set/2.jpg"], both[1:]),
        (["list.txt"], [both[1], "photos/9.jpg", both[0], "part1.zip!/set/gone[1].jpg"]),
    ):
        assert [ref.uri for ref in listed(sources).refs] == expected
    assert [ref.size for ref in listed(["list.txt"]).refs][2:] == [2, -1]
    with pytest.raises(ValueError, match=r"expected an image in the archive, found no set/\[1\]\.jpg in part1\.zip"):
        listed(["part1.zip!/set/[1].jpg"])
    assert listed(["part1.zip", "./part1.zip"]).notes[0].startswith("1 URIs are listed more than once")


def test_existing_paths_that_look_like_entries_are_taken_literally(here: Path) -> None:
    write_photo(here / "a.zip!" / "1.png", 1)
    write_photo(here / "b.zip" / "2.png", 2)
    refs = listed(["a.zip!", "b.zip", "a.zip!/1.png"]).refs
    assert [(ref.set_name, ref.uri) for ref in refs] == [("a.zip!", "a.zip!/1.png"), ("b.zip", "b.zip/2.png")]
    for ref in refs:
        assert read_image(ref, LIMIT)[1].shape == (30, 40, 3)


def test_an_unreadable_archive_is_an_error_when_it_is_listed(here: Path) -> None:
    good = zip_bytes([("set/1.jpg", b"x" * 100)])
    os.mkfifo("fifo.zip")
    for name, data, words in (
        ("cut.zip", good[:-30], "File is not a zip file"),
        ("empty.zip", b"", "File is not a zip file"),
        ("text.zip", b"PK? no", "File is not a zip file"),
        ("hurt.zip", patched(good, b"PK\x01\x02", b"PK\x09\x09"), "Bad magic number for central directory"),
        ("fifo.zip", None, "expected a regular file, found a special file"),
    ):
        if data is not None:
            Path(name).write_bytes(data)
        for source in (name, f"{name}!/set/1.jpg"):
            with pytest.raises(ValueError, match=f"{name}: expected a zip archive, got: .*{words}"):
                listed([source])
    Path("none.zip").write_bytes(zip_bytes([("notes.txt", b"x")]))
    with pytest.raises(ValueError, match=r"none\.zip: expected images, found none"):
        listed(["none.zip"])


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("prefix", [b"", b"#!/bin/sh\nself-extracting\n"])
def test_an_entry_is_read_bit_for_bit(here: Path, method: int, prefix: bytes) -> None:
    data = photo_bytes(3)
    Path("p.zip").write_bytes(prefix + zip_bytes([("x/1.png", b"first"), ("x/a [1].png", data)], method))
    sha256, pixels = read_image(unlisted("p.zip!/x/a [1].png"), LIMIT)
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert pixels.shape == (30, 40, 3)


def test_entries_with_long_extra_fields_and_at_the_end_are_read(here: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("a.bin")
        info.extra = b"\x99\x99\x00\x20" + bytes(0x2000)
        archive.writestr(info, b"x" * 5000)
        archive.writestr("empty.bin", b"")
        archive.writestr("last.bin", b"z")
    Path("e.zip").write_bytes(stream.getvalue())
    assert files.read_bytes("e.zip!/a.bin") == b"x" * 5000
    assert files.read_bytes("e.zip!/empty.bin") == b""
    assert files.read_bytes("e.zip!/last.bin", limit=1) == b"z"


def test_of_entries_of_one_name_the_last_is_read(here: Path) -> None:
    Path("p.zip").write_bytes(zip_bytes([("s/1.png", b"old"), ("s/1.png", b"newer")]))
    (ref,) = listed(["p.zip"]).refs
    assert ref.size == 5 and files.read_bytes(ref.uri) == b"newer"


def test_a_damaged_entry_is_the_failure_of_its_image(here: Path) -> None:
    good = photo_bytes(1)
    stored = zip_bytes([("s/1.png", good), ("s/2.png", good)])
    packed = zip_bytes([("s/1.png", good)], zipfile.ZIP_DEFLATED)
    less = (len(good) - 1).to_bytes(4, "little")
    for data, words in (
        (stored.replace(good, good[:-9] + b"x" + good[-8:], 1), "its length or CRC differs"),
        (with_directory_field(stored, 8, b"\x01\x00"), "the zip entry is encrypted"),
        (with_directory_field(stored, 10, b"\x0c\x00"), "zip method 12: expected stored (0) or deflated (8)"),
        (with_directory_field(stored, 42, b"\x07\x00\x00\x00"), "no entry begins where the zip's directory says"),
        (with_directory_field(stored, 42, b"\xff\xff\xff\x7e"), "no entry begins where the zip's directory says"),
        (with_directory_field(stored, 20, less), "its length or CRC differs"),
        (with_directory_field(packed, 24, less), "its length or CRC differs"),
        (with_directory_field(stored, 24, b"\xff\xff\xff\x7f"), "larger than "),
        (packed[:60] + b"\xff\xff\xff" + packed[63:], "damaged zip entry: "),
    ):
        Path("p.zip").write_bytes(data)
        listed(["p.zip"])
        stage, reason = failure_of("p.zip!/s/1.png")
        assert stage == "read" and words in reason, reason
    Path("p.zip").write_bytes(stored)
    assert failure_of("p.zip!/s/3.png") == ("read", "no entry of this name in the zip")
    assert read_image(unlisted("p.zip!/s/2.png"), LIMIT)[1].shape == (30, 40, 3)
    Path("p.zip").unlink()
    assert failure_of("p.zip!/s/2.png") == ("read", "No such file or directory")


def test_a_bomb_is_refused_before_it_is_unpacked(here: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("b/1.png", "w") as entry:
        for _ in range(300):
            entry.write(bytes(1 << 20))
    Path("b.zip").write_bytes(stream.getvalue())
    assert failure_of("b.zip!/b/1.png")[1].startswith("larger than ")
    lying = with_directory_field(stream.getvalue(), 24, (1000).to_bytes(4, "little"))
    Path("b.zip").write_bytes(lying)
    assert "its length or CRC differs" in failure_of("b.zip!/b/1.png")[1]


def test_a_changed_archive_is_read_anew(here: Path) -> None:
    Path("p.zip").write_bytes(zip_bytes([("s/1.png", b"one")]))
    assert files.read_bytes("p.zip!/s/1.png") == b"one"
    Path("p.zip").write_bytes(zip_bytes([("s/0.png", b"zero"), ("s/1.png", b"other")]))
    assert files.read_bytes("p.zip!/s/1.png") == b"other"


def test_many_threads_read_many_zips_and_parse_each_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    contents = {
        f"{number}.zip": {f"s/{i}.bin": rng.bytes(int(rng.integers(1, 50_000))) for i in range(20)}
        for number in range(40)
    }
    for name, entries in contents.items():
        Path(name).write_bytes(zip_bytes(entries.items(), zipfile.ZIP_DEFLATED))
    parsed: list[Any] = []
    zip_file = zipfile.ZipFile

    def counting(stream: Any) -> zipfile.ZipFile:
        parsed.append(stream)
        return zip_file(stream)

    monkeypatch.setattr(zipfile, "ZipFile", counting)
    requests = [(name, entry) for name in contents for entry in contents[name]] * 2
    rng.shuffle(requests)
    barrier = threading.Barrier(8)

    def read(part: list[Any]) -> list[bool]:
        barrier.wait()
        return [files.read_bytes(f"{name}!/{entry}") == contents[name][entry] for name, entry in part]

    with ThreadPoolExecutor(8) as pool:
        assert all(all(good) for good in pool.map(read, [requests[i::8] for i in range(8)]))
    assert len(parsed) == len(contents)
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    opened = [os.readlink(link) for link in links if os.path.lexists(link)]
    assert len([path for path in opened if path.startswith(str(here))]) <= 32


def test_an_archive_gives_the_same_records_as_its_folder(corpus: Path, tmp_path: Path) -> None:
    (corpus / "images" / "train2014" / "COCO_train2014_000000000500.jpg").write_text("broken")
    zips = []
    for method, name in ((zipfile.ZIP_STORED, "train2014"), (zipfile.ZIP_DEFLATED, "val2014")):
        zips.append(tmp_path / f"{name}.zip")
        zips[-1].write_bytes(zip_folder(corpus / "images" / name, f"{name}/", method))
    zips.append(tmp_path / "test2015.zip")
    zips[-1].write_bytes(zip_folder(corpus / "images" / "test2015", ""))
    flags = [
        "--captions",
        corpus / "dataset_coco.json",
        "--num_shards",
        2,
        "--batch_size",
        3,
        "--failure_threshold",
        0.5,
    ]
    folders = [corpus / "images" / path.stem for path in zips]
    assert run("--images", *folders, "--output", tmp_path / "a", *flags) == 0
    assert run("--images", *zips, "--output", tmp_path / "b", *flags) == 0
    shards = sorted((tmp_path / "a" / "tfrecord").glob("*.tfrecord"))
    assert len(shards) == 6
    compared = [*shards, *(tmp_path / "a").rglob("*.mdb"), *(tmp_path / "a" / "annotations").iterdir()]
    assert len(compared) >= 11
    for path in compared:
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path
    (failure,) = [json.loads(line) for line in (tmp_path / "b" / "failures.jsonl").open()]
    assert failure["uri"] == f"{zips[0]}!/train2014/COCO_train2014_000000000500.jpg" and failure["stage"] == "decode"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "b" / "tfrecord").iterdir()}
    assert run("--images", *zips, "--output", tmp_path / "b", *flags) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "b" / "tfrecord").iterdir()} == before


def test_a_damaged_zip_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cut.zip").write_bytes(zip_bytes([("s/1.png", b"x")])[:-5])
    assert run("--images", tmp_path / "cut.zip", "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "cut.zip: expected a zip archive, got: File is not a zip file" in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()
