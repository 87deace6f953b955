"""Images that change between runs, or between their listing and their reading, never keep another file's record."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.verify.command import verify
from tests.conftest import tree_bytes, write_photo
from tests.samples.buckets import upload, upload_folder
from tests.samples.program import run
from tests.samples.zips import zip_folder
from transforms import files
from transforms.listing import list_images

IMAGES, OUT = 6, "out"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(IMAGES):
        write_photo(folder / f"{number}.png", number)
    return folder


def extract(photos: Path, *flags: object) -> int:
    out = photos.parent / OUT
    return run("--images", photos, "--output", out, "--num_shards", 3, "--failure_threshold", 0.5, *flags)


def records(photos: Path) -> dict[str, bytes]:
    tree = tree_bytes(photos.parent / OUT / "tfrecord")
    return {name: data for name, data in tree.items() if name.endswith(".tfrecord")}


def other_content_of_the_same_size(path: Path) -> bytes:
    data = bytearray(path.read_bytes())
    other = path.with_name("other.png")
    write_photo(other, 99)
    content = other.read_bytes()
    other.unlink()
    # Bytes behind a PNG's end are not read.
    size = max(len(data), len(content))
    path.write_bytes(bytes(data).ljust(size, b"\0"))
    return content.ljust(size, b"\0")


def replace_keeping_size(path: Path, content: bytes) -> None:
    assert len(content) == path.stat().st_size and content != path.read_bytes()
    path.write_bytes(content)


def problems(photos: Path, inputs: bool = True) -> list[str]:
    return [problem.message for problem in verify(str(photos.parent / OUT), inputs).problems]


def test_an_image_of_the_same_size_is_read_again(photos: Path) -> None:
    content = other_content_of_the_same_size(photos / "2.png")
    assert extract(photos) == 0
    before = records(photos)
    assert problems(photos) == []
    replace_keeping_size(photos / "2.png", content)
    (problem,) = problems(photos)
    assert str(photos / "2.png") in problem and problems(photos, inputs=False) == []
    assert extract(photos) == 0
    after = records(photos)
    assert {name for name in before if before[name] != after[name]} == {"photos-00001-of-00003.tfrecord"}
    assert problems(photos) == []


def test_touched_images_are_compared_and_not_detected_again(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert extract(photos) == 0
    before = records(photos)
    for path in photos.iterdir():
        os.utime(path, ns=(1, 1))
    assert problems(photos) == []
    capsys.readouterr()
    monkeypatch.setattr("transforms.shards.ShardWriter", None)  # no shard may be written
    assert extract(photos) == 0
    assert f"{IMAGES} images have another time" in capsys.readouterr().err
    assert records(photos) == before and problems(photos) == []
    assert extract(photos) == 0
    assert "another time" not in capsys.readouterr().err


def test_a_touched_image_that_failed_is_compared_and_not_tried_again(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "1.png").write_bytes(b"no image")
    assert extract(photos) == 0
    failures = (tmp_path / OUT / "failures.jsonl").read_bytes()
    os.utime(photos / "1.png", ns=(1, 1))
    monkeypatch.setattr("transforms.shards.ShardWriter", None)  # no shard may be written
    capsys.readouterr()
    assert extract(photos) == 0
    assert "1 images have another time" in capsys.readouterr().err
    assert (tmp_path / OUT / "failures.jsonl").read_bytes() == failures and failures
    assert problems(photos) == []


def test_an_image_that_failed_and_was_mended_is_tried_again(photos: Path) -> None:
    good = (photos / "1.png").read_bytes()
    (photos / "1.png").write_bytes(bytes(len(good)))
    assert extract(photos) == 0
    (photos / "1.png").write_bytes(good)
    (problem,) = problems(photos)
    assert problem.startswith(f"{photos / '1.png'}: expected the content that was read")
    assert extract(photos) == 0
    assert (photos.parent / OUT / "failures.jsonl").read_bytes() == b""


@contextmanager
def swapped_after_listing(monkeypatch: pytest.MonkeyPatch, path: Path, content: bytes) -> Iterator[None]:
    original = path.read_bytes()

    def list_and_swap(*arguments: Any) -> Any:
        listing = list_images(*arguments)
        replace_keeping_size(path, content)
        return listing

    with monkeypatch.context() as patch:
        patch.setattr("beam_pipeline.preflight.inputs.list_images", list_and_swap)
        yield
    path.write_bytes(original)


def test_an_image_that_changes_between_listing_and_reading_is_a_failure_until_it_is_read_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = photos / "3.png"
    content = other_content_of_the_same_size(path)
    with swapped_after_listing(monkeypatch, path, content):
        assert extract(photos) == 0
    failures = (tmp_path / OUT / "failures.jsonl").read_text()
    assert f'"{path}"' in failures and "changed after it was listed" in failures
    assert extract(photos) == 0
    assert (tmp_path / OUT / "failures.jsonl").read_bytes() == b"" and problems(photos) == []


def failed_images(out: Path) -> list[str]:
    return [json.loads(line)["img_id"] for line in (out / "failures.jsonl").open()]


def test_an_object_of_the_same_size_is_read_again_and_one_swapped_after_the_listing_is_a_failure(
    photos: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = other_content_of_the_same_size(photos / "2.png")
    upload_folder(photos, f"{bucket}/photos")
    flags = ("--images", f"{bucket}/photos", "--output", tmp_path / OUT, "--num_shards", 3, "--failure_threshold", 0.5)

    def list_and_swap(*arguments: Any) -> Any:
        listing = list_images(*arguments)
        replace_keeping_size(photos / "2.png", content)
        upload(photos / "2.png", f"{bucket}/photos/2.png")
        return listing

    with monkeypatch.context() as patch:
        patch.setattr("beam_pipeline.preflight.inputs.list_images", list_and_swap)
        assert run(*flags) == 0
    assert failed_images(tmp_path / OUT) == ["2"]
    assert run(*flags) == 0
    assert failed_images(tmp_path / OUT) == [] and problems(photos) == []
    before = records(photos)
    write_photo(photos / "2.png", 2)
    (photos / "2.png").write_bytes((photos / "2.png").read_bytes().ljust(len(content), b"\0"))
    upload(photos / "2.png", f"{bucket}/photos/2.png")
    (problem,) = problems(photos)
    assert f"{bucket}/photos/2.png" in problem
    assert run(*flags) == 0
    after = records(photos)
    assert {name for name in before if before[name] != after[name]} == {"photos-00001-of-00003.tfrecord"}


def test_an_image_of_the_same_size_in_a_zip_is_read_again(photos: Path, tmp_path: Path) -> None:
    content = other_content_of_the_same_size(photos / "2.png")
    archive = tmp_path / "photos.zip"
    archive.write_bytes(zip_folder(photos, "photos/"))
    flags = ("--images", archive, "--output", tmp_path / OUT, "--num_shards", 3)
    assert run(*flags) == 0
    before, state = records(photos), archive.stat()
    replace_keeping_size(photos / "2.png", content)
    archive.write_bytes(zip_folder(photos, "photos/"))
    os.utime(archive, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert archive.stat().st_size == state.st_size
    (problem,) = problems(photos)
    assert "photos.zip!/photos/2.png" in problem
    assert run(*flags) == 0
    after = records(photos)
    assert {name for name in before if before[name] != after[name]} == {"photos-00001-of-00003.tfrecord"}


def test_a_file_that_could_not_be_read_and_is_there_now_is_named(photos: Path) -> None:
    link, boxes = photos / "2.png", photos.parent / "boxes.jsonl"
    link.rename(photos.parent / "2.png")
    link.symlink_to("nowhere")
    rows = [{"img_id": str(number), "boxes": [[0, 0, 20, 20]]} for number in range(IMAGES)]
    boxes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert extract(photos, "--boxes", boxes) == 0 and problems(photos) == []
    link.unlink()
    (photos.parent / "2.png").rename(link)
    boxes.write_text(boxes.read_text().replace("20", "21"))
    about_boxes, about_image = problems(photos)
    assert about_boxes.startswith(f"{boxes}: expected the content that was read (SHA-256 ")
    assert about_image.startswith(f"{link}: expected the file that could not be read, got another")


def test_a_damaged_shard_is_made_again_on_request(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert extract(photos) == 0
    whole = records(photos)
    shard = photos.parent / OUT / "tfrecord" / "photos-00001-of-00003.tfrecord"
    with shard.open("r+b") as stream:
        stream.seek(100)
        byte = stream.read(1)
        stream.seek(100)
        stream.write(bytes([byte[0] ^ 1]))
    assert extract(photos) == 0 and records(photos) != whole
    assert any("--check_shards" in message for message in problems(photos))
    capsys.readouterr()
    assert extract(photos, "--check_shards") == 0
    assert f"{shard} is damaged, and is made again" in capsys.readouterr().err
    assert records(photos) == whole and problems(photos) == []


def test_a_damaged_shard_that_an_export_reads_is_made_again_by_a_rerun(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extract(photos, "--outputs", "tfrecord") == 0
    whole = records(photos)
    shard = files.join(str(photos.parent / OUT), "tfrecord", "photos-00001-of-00003.tfrecord")
    data = bytearray(Path(shard).read_bytes())
    data[len(data) // 2] ^= 1
    Path(shard).write_bytes(data)
    assert extract(photos, "--outputs", "tfrecord,lmdb") == 1
    error = capsys.readouterr().err
    assert shard in error and "run the same command again" in error
    assert extract(photos, "--outputs", "tfrecord,lmdb") == 0
    assert records(photos) == whole and problems(photos) == []
