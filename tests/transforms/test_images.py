"""Reading images ahead of the detector: failures keep their places, batches their shards and their pixels."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline  # pytest collects what is called Test
from apache_beam.testing.util import assert_that, equal_to
from numpy.typing import NDArray
from PIL import Image

from region_features.records.failure import ImageFailure
from region_features.records.given_boxes import GivenBoxes, no_boxes
from region_features.records.item import CaptionedImage, ImageItem
from region_features.records.plan import ImageRef, ShardKey
from region_features.records.prepared_image import PreparedImage
from tests.conftest import write_photo
from tests.samples.fakes import fake_prepare
from transforms.images import LoadImages, load_item, read_image

LIMIT = 10**6


def unlisted(uri: str) -> ImageRef:
    return ImageRef("photos", "a", uri, -1)


def captioned(img_id: str, uri: str = "") -> CaptionedImage:
    return CaptionedImage(ImageRef("photos", img_id, uri or f"photos/{img_id}.png", -1), None)


def shard_of(count: int) -> ShardKey:
    return ShardKey("photos", 0, 1, count)


def failure_of(uri: object, limit: int = LIMIT) -> tuple[str, str]:
    with pytest.raises(ImageFailure) as caught:
        read_image(unlisted(str(uri)), limit)
    return caught.value.stage, caught.value.reason


def test_an_image_comes_with_the_checksum_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "50% [1]*.png"
    write_photo(path, 3)
    sha256, pixels = read_image(unlisted(str(path)), LIMIT)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(path))[:, :, ::-1])


def test_an_unreadable_file_fails_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "fifo.jpg")
    os.symlink("nowhere", tmp_path / "dangling.jpg")
    os.symlink("loop.jpg", tmp_path / "loop.jpg")
    assert failure_of(tmp_path / "missing.jpg") == ("read", "No such file or directory")
    assert failure_of(tmp_path / "dangling.jpg") == ("read", "No such file or directory")
    assert failure_of(tmp_path / "folder.jpg") == ("read", "expected a regular file, found a directory")
    assert failure_of(tmp_path / "fifo.jpg") == ("read", "expected a regular file, found a special file")
    assert failure_of(tmp_path / "loop.jpg") == ("read", "Too many levels of symbolic links")
    assert failure_of(tmp_path / ("x" * 300)) == ("read", "File name too long")
    stage, reason = failure_of(tmp_path / "nul\0.jpg")
    assert stage == "read" and reason.startswith("ValueError: ") and "embedded null" in reason  # wording is Python's
    assert failure_of("nosuch://bucket/a.jpg")[0] == "read"


def test_a_file_without_permission_fails_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photo(tmp_path / "a.png", 1)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "a.png")

    monkeypatch.setattr(FileSystems, "open", refuse)  # the tests may run as root, who may read everything
    assert failure_of(tmp_path / "a.png") == ("read", "Permission denied")


def test_an_exception_of_a_remote_file_system_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photo(tmp_path / "a.png", 1)

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("503 backend\nerror")

    monkeypatch.setattr(FileSystems, "open", refuse)
    assert failure_of(tmp_path / "a.png") == ("read", "RuntimeError: 503 backend error")


def test_a_file_of_absurd_length_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "long.jpg"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)  # a hole: a terabyte that takes no room
    stage, reason = failure_of(path)
    assert stage == "read" and reason.startswith("larger than ")


def test_metadata_does_not_count_against_the_pixel_limit(tmp_path: Path) -> None:
    path = tmp_path / "profile.png"
    Image.new("RGB", (2, 2), "white").save(path, icc_profile=np.random.default_rng(0).bytes(200_000))
    assert path.stat().st_size > 100_000
    assert read_image(unlisted(str(path)), 4)[1].shape == (2, 2, 3)
    assert failure_of(path, 3)[0] == "decode"


def test_an_image_that_cannot_be_loaded_is_its_own_failure(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", 1)
    image = captioned("a", str(tmp_path / "a.png"))
    item, prepared = load_item(shard_of(1), image, fake_prepare, LIMIT)
    assert item == ImageItem(shard_of(1), image, hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest())
    assert isinstance(prepared, PreparedImage) and prepared.img_id == "a" and prepared.pixels.shape == (30, 40, 3)

    missing = captioned("b", str(tmp_path / "b.png"))
    item, failure = load_item(shard_of(1), missing, fake_prepare, LIMIT)
    assert item == ImageItem(shard_of(1), missing, "")
    assert isinstance(failure, ImageFailure) and failure.stage == "read"

    def broken(img_id: str, image: NDArray[np.uint8]) -> PreparedImage:
        raise ZeroDivisionError(f"no scale for {img_id}")

    item, failure = load_item(shard_of(1), image, broken, LIMIT)
    assert isinstance(failure, ImageFailure)
    assert (failure.stage, failure.reason) == ("decode", "ZeroDivisionError: no scale for a")


def load_with_boxes(path: Path, boxes: GivenBoxes | None) -> PreparedImage | ImageFailure:
    image = CaptionedImage(ImageRef("photos", path.stem, str(path), -1), None, boxes)
    return load_item(shard_of(1), image, fake_prepare, LIMIT)[1]


def test_an_image_carries_its_given_boxes_or_why_they_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_photo(path, 1, (30, 40))
    inside = GivenBoxes("a", np.array([[0, 0, 40, 30], [1, 1, 2, 2]], np.float32))
    with_boxes = load_with_boxes(path, inside)
    assert isinstance(with_boxes, PreparedImage) and with_boxes.boxes is not None
    np.testing.assert_array_equal(with_boxes.boxes, inside.boxes)
    without_boxes = load_with_boxes(path, None)
    assert isinstance(without_boxes, PreparedImage) and without_boxes.boxes is None
    np.testing.assert_array_equal(without_boxes.pixels, with_boxes.pixels)
    outside = GivenBoxes("a", np.array([[0, 0, 41, 30]], np.float32))
    for result, stage in (
        (load_with_boxes(path, outside), "boxes"),
        (load_with_boxes(path, no_boxes("a")), "boxes"),
        (load_with_boxes(tmp_path / "b.png", no_boxes("b")), "read"),
    ):
        assert isinstance(result, ImageFailure) and result.stage == stage


def prepare_but_for_three(img_id: str, image: NDArray[np.uint8]) -> PreparedImage:
    if img_id == "3":
        raise ValueError("three cannot be prepared")
    return fake_prepare(img_id, image)


def summary(batch: list[tuple[ImageItem, Any]]) -> list[tuple[str, str]]:
    return [
        (item.image.ref.img_id, f"{got.stage}: {got.reason}" if isinstance(got, ImageFailure) else f"{got.height}")
        for item, got in batch
    ]


def test_failures_keep_their_places_in_batches(tmp_path: Path) -> None:
    for number in (0, 1, 3, 5, 6):
        write_photo(tmp_path / f"{number}.png", number)
    (tmp_path / "4.png").write_bytes(b"text")
    images = [captioned(str(n), str(tmp_path / f"{n}.png")) for n in (6, 5, 4, 3, 2, 1, 0)]
    with Pipeline() as pipeline:
        batches = (
            pipeline
            | beam.Create([(("photos", 0, 1, 7), images)], reshuffle=False)
            | LoadImages(str(tmp_path), prepare_but_for_three, LIMIT, lambda: 3)
            | beam.Map(summary)
        )
        assert_that(
            batches,
            equal_to(
                [
                    [("0", "30"), ("1", "30"), ("2", "read: No such file or directory")],
                    [
                        ("3", "decode: ValueError: three cannot be prepared"),
                        ("4", "decode: not an image of a known format; it begins with b'text'"),
                        ("5", "30"),
                    ],
                    [("6", "30")],
                ]
            ),
        )


def test_a_batch_holds_images_of_one_shard(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", 1)
    shards = [
        (("photos", n, 3, 2), [captioned(f"{n}{i}", str(tmp_path / "a.png")) for i in range(2)]) for n in range(3)
    ]
    with Pipeline() as pipeline:
        batches = (
            pipeline
            | beam.Create(shards)
            | LoadImages(str(tmp_path), fake_prepare, LIMIT, lambda: 4)
            | beam.Map(summary)
        )
        assert_that(batches, equal_to([[(f"{n}0", "30"), (f"{n}1", "30")] for n in range(3)]))


class Unpicklable(PreparedImage):
    """An image that stays in the process in which it was read."""

    def __reduce_ex__(self, protocol: object) -> Any:
        raise AssertionError("pixels were pickled")


def prepare_unpicklable(img_id: str, image: NDArray[np.uint8]) -> PreparedImage:
    return Unpicklable(img_id, image.shape[0], image.shape[1], 1.0, image.astype(np.float32))


def test_pixels_are_not_pickled_between_fused_steps(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", 1)
    images = [captioned(str(n), str(tmp_path / "a.png")) for n in range(5)]
    with Pipeline() as pipeline:
        shards = pipeline | beam.Create([(("photos", 0, 1, 5), images)], reshuffle=False)
        sizes = shards | LoadImages(str(tmp_path), prepare_unpicklable, LIMIT, lambda: 2) | beam.Map(len)
        assert_that(sizes, equal_to([2, 2, 1]))


def test_batches_survive_a_runner_that_does_not_fuse(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", 1)
    images = [captioned(str(n), str(tmp_path / "a.png")) for n in range(3)]
    with Pipeline() as pipeline:
        shards = pipeline | beam.Create([(("photos", 0, 1, 3), images)], reshuffle=False)
        batches = (
            shards | LoadImages(str(tmp_path), fake_prepare, LIMIT, lambda: 2) | beam.Reshuffle() | beam.Map(summary)
        )
        assert_that(batches, equal_to([[("0", "30"), ("1", "30")], [("2", "30")]]))
