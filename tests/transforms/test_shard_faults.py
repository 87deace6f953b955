"""Shards whose writing fails, is interrupted or repeated: nothing half-written counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.filesystems import FileSystems

from region_features.formats.example import ImageExample, encode_example
from tests.conftest import tree_bytes
from tests.samples.shards import SETTINGS, elements, names, plan_of, run_bundle, visible
from transforms import files
from transforms.published import read_published
from transforms.shards import _WriteShard


def test_a_shard_that_cannot_be_published_ends_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> int:
        raise OSError("the bucket is gone")

    monkeypatch.setattr(FileSystems, "rename", fail)
    writer = _WriteShard(str(tmp_path), SETTINGS)
    with pytest.raises(OSError, match="the bucket is gone"):
        run_bundle(writer, [*elements(number=0, of=2), *elements(number=1, of=2)])
    writer.teardown()
    assert names(tmp_path) == []


def test_an_interrupted_bundle_leaves_nothing_that_counts(tmp_path: Path) -> None:
    writer = _WriteShard(str(tmp_path), SETTINGS)
    writer.start_bundle()
    for element in elements()[:3]:
        list(writer.process(element))
    assert visible(tmp_path) == []  # as kill -9 would leave it
    writer.start_bundle()  # as the runner does after an error
    assert names(tmp_path) == []
    assert run_bundle(writer, elements()) == ["photos-00000-of-00001.tfrecord"]

    list(writer.process(elements("other")[0]))
    writer.teardown()
    assert names(tmp_path) == ["photos-00000-of-00001.tfrecord", "photos-00000-of-00001.tfrecord.stats.json"]


def test_a_short_bundle_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"photos-00000-of-00001\.tfrecord: expected 4 images in its bundle, got 3"):
        run_bundle(_WriteShard(str(tmp_path), SETTINGS), elements()[:3])
    assert names(tmp_path) == []


def test_an_image_too_many_is_an_error(tmp_path: Path) -> None:
    made = elements()
    with pytest.raises(RuntimeError, match=r"expected 4 images in its bundle, got 1"):
        run_bundle(_WriteShard(str(tmp_path), SETTINGS), [*made, made[0]])


def test_interleaved_shards_are_an_error(tmp_path: Path) -> None:
    first, second = elements(number=0, of=2), elements(number=1, of=2)
    with pytest.raises(RuntimeError, match=r"00001-of-00002\.tfrecord began before photos-00000-of-00002\.tfrecord"):
        run_bundle(_WriteShard(str(tmp_path), SETTINGS), [first[0], second[0]])
    assert visible(tmp_path) == []


def test_a_record_that_cannot_be_encoded_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(example: ImageExample) -> bytes:
        if example.record.img_id == "photos_03":
            raise ValueError("photos_03")
        return encode_example(example)

    monkeypatch.setattr("transforms.shards.encode_example", encode)
    made = elements()
    writer = _WriteShard(str(tmp_path), SETTINGS)
    with pytest.raises(ValueError, match="photos_03"):
        run_bundle(writer, made)
    writer.teardown()
    assert names(tmp_path) == []


def test_a_crash_between_shard_and_stats_leaves_a_shard_that_is_redone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = elements()
    plan = plan_of(made)
    run_bundle(_WriteShard(str(tmp_path), SETTINGS), made)
    whole = tree_bytes(tmp_path)

    def crash(*_: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "publish_bytes", crash)
        with pytest.raises(KeyboardInterrupt):
            run_bundle(_WriteShard(str(tmp_path), SETTINGS), made)
    assert visible(tmp_path) == ["photos-00000-of-00001.tfrecord"]
    assert read_published(str(tmp_path), plan) == {}
    run_bundle(_WriteShard(str(tmp_path), SETTINGS), made)
    assert tree_bytes(tmp_path) == whole
    assert list(read_published(str(tmp_path), plan)) == list(plan.shards)


class FullDisk:
    """A stream that takes `room` bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, data: bytes) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return len(data)

    def close(self) -> None:
        """Nothing to close."""


def test_a_full_disk_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileSystems, "create", lambda *_, **__: FullDisk(2000))
    with pytest.raises(OSError, match="No space left"):
        run_bundle(_WriteShard(str(tmp_path), SETTINGS), elements())
    assert names(tmp_path) == []
