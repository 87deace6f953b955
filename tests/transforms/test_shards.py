"""Shards are published whole or not at all, and come out the same whenever they are made."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import google_crc32c
import numpy as np
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline  # pytest collects what is called Test
from apache_beam.testing.util import assert_that, equal_to

from region_features.formats.example import ImageExample, decode_example
from region_features.formats.tfrecord import read_records
from region_features.health.measure import measure
from region_features.records.failure import Failure, ImageFailure
from region_features.records.plan import input_digest
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord
from region_features.records.stats import STATS_SUFFIX, ShardStats
from tests.conftest import tree_bytes
from tests.samples.shards import SETTINGS, elements, names, run_bundle, visible
from transforms import files
from transforms.metrics import NAMESPACE, local_counts, reset_local_counts
from transforms.publication import encode_crc32c
from transforms.shards import IMAGES_FAILED, IMAGES_WRITTEN, ShardWriter, WriteShards, _WriteShard


def read_shard(path: Path) -> list[ImageExample]:
    with path.open("rb") as stream:
        return [decode_example(data, path.name) for data in read_records(stream, path.name)]


def test_a_shard_is_published_after_its_last_image(tmp_path: Path) -> None:
    writer = _WriteShard(str(tmp_path), SETTINGS)
    writer.start_bundle()
    *first, last = elements()
    for element in first:
        assert list(writer.process(element)) == []
        assert visible(tmp_path) == []
    assert list(writer.process(last)) == []
    assert [name.value for name in writer.finish_bundle()] == ["photos-00000-of-00001.tfrecord"]
    assert names(tmp_path) == ["photos-00000-of-00001.tfrecord", "photos-00000-of-00001.tfrecord.stats.json"]
    writer.teardown()
    assert len(names(tmp_path)) == 2


def test_the_next_shard_begins_while_one_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish, go_on = files.publish_bytes, threading.Event()

    def slowly(*args: Any) -> int:
        assert go_on.wait(60)
        return publish(*args)

    monkeypatch.setattr(files, "publish_bytes", slowly)
    writer = _WriteShard(str(tmp_path), SETTINGS)
    writer.start_bundle()
    *first, last = elements(number=1, of=2)
    for element in [*elements(number=0, of=2), *first]:
        assert list(writer.process(element)) == []
    go_on.set()
    assert list(writer.process(last)) == ["photos-00000-of-00002.tfrecord"]
    assert [name.value for name in writer.finish_bundle()] == ["photos-00001-of-00002.tfrecord"]
    writer.teardown()
    assert len(names(tmp_path)) == 4


def test_a_shard_holds_what_went_in(tmp_path: Path) -> None:
    made = elements()
    run_bundle(_WriteShard(str(tmp_path), SETTINGS), made)
    path = tmp_path / "photos-00000-of-00001.tfrecord"
    examples = read_shard(path)
    assert [example.record.img_id for example in examples] == ["photos_00", "photos_02", "photos_03"]
    for example, (item, result) in zip(examples, [made[0], made[2], made[3]], strict=True):
        assert isinstance(result, RegionRecord)
        for field in ARRAY_FIELDS:
            assert getattr(example.record, field.name).tobytes() == getattr(result, field.name).tobytes()
        assert (example.filename, example.sha256) == (f"{result.img_id}.jpg", item.sha256)
    assert (examples[0].captions, examples[0].caption_ids, examples[0].split) == (
        ("A café. ", "Two"),
        (70, 71),
        "restval",
    )
    assert (examples[1].captions, examples[1].caption_ids, examples[1].split) == ((), (), "")

    stats = ShardStats.from_json((tmp_path / f"{path.name}{STATS_SUFFIX}").read_bytes(), "stats")
    assert stats == ShardStats(
        shard=path.name,
        settings=SETTINGS,
        inputs=input_digest([item.image.ref for item, _ in made]),
        ids=("photos_00", "photos_02", "photos_03"),
        image_sha256={f"photos_0{index}": f"{index:064x}" for index in range(4)},
        failures=(Failure("in put/photos_01.jpg", "photos_01", "decode", "the file is empty"),),
        reused=0,
        num_bytes=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        crc32c=encode_crc32c(google_crc32c.value(path.read_bytes())),
        health=measure(result for _, result in made if isinstance(result, RegionRecord)),
    )


def test_tensorflow_reads_the_shards(tmp_path: Path) -> None:
    import tensorflow as tf

    made = elements()
    run_bundle(_WriteShard(str(tmp_path), SETTINGS), made)
    paths = [str(path) for path in tmp_path.glob("*.tfrecord")]
    found = {}
    for data in tf.data.TFRecordDataset(paths).as_numpy_iterator():
        feature = tf.train.Example.FromString(data).features.feature
        found[feature["image/source_id"].bytes_list.value[0].decode()] = feature
    assert list(found) == ["photos_00", "photos_02", "photos_03"]
    feature, record = found["photos_00"], made[0][1]
    assert isinstance(record, RegionRecord)
    shape = tuple(feature["region/features/shape"].int64_list.value)
    raw = feature["region/features"].bytes_list.value[0]
    np.testing.assert_array_equal(np.frombuffer(raw, "<f4").reshape(shape), record.features)
    assert feature["region/count"].int64_list.value[0] == record.num_boxes
    assert list(feature["image/detection/label"].int64_list.value) == (record.objects_id + 1).tolist()
    np.testing.assert_allclose(feature["image/detection/bbox/xmax"].float_list.value, record.boxes[:, 2] / 5, rtol=1e-6)
    assert [text.decode() for text in feature["image/caption"].bytes_list.value] == ["A café. ", "Two"]


def with_nan(record: RegionRecord) -> RegionRecord:
    features = record.features.copy()
    features[0, 1] = np.nan
    return replace(record, features=features)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (with_nan, r"field features: 1 values are NaN or infinite, first at \(0, 1\)"),
        (lambda record: replace(record, boxes=record.boxes * np.float32(np.inf)), "field boxes: .* infinite"),
        (lambda record: replace(record, boxes=record.boxes + np.float32(1000)), "expected boxes inside the image"),
        (lambda record: replace(record, objects_id=record.objects_id - 9), "field objects_id: expected ids from 0"),
        (lambda record: replace(record, objects_conf=record.objects_conf + 2), "expected values from 0 to 1"),
        (lambda record: replace(record, img_h=0), "expected a size of at least 1 x 1"),
    ],
)
def test_a_record_with_bad_values_is_a_failure_of_its_image_alone(
    tmp_path: Path, spoil: Callable[[RegionRecord], RegionRecord], words: str
) -> None:
    (item, record), *others = elements(count=3)
    assert isinstance(record, RegionRecord)
    run_bundle(_WriteShard(str(tmp_path), SETTINGS), [(item, spoil(record)), *others])
    path = tmp_path / "photos-00000-of-00001.tfrecord"
    stats = ShardStats.from_json((tmp_path / f"{path.name}{STATS_SUFFIX}").read_bytes(), "stats")
    assert [example.record.img_id for example in read_shard(path)] == list(stats.ids) == ["photos_02"]
    assert (stats.failures[0].img_id, stats.failures[0].stage) == (item.image.ref.img_id, "record")
    assert re.search(words, stats.failures[0].reason)


def test_an_empty_shard_of_failures_is_still_a_shard(tmp_path: Path) -> None:
    made = [(item, ImageFailure("read", "gone")) for item, _ in elements(count=2)]
    assert run_bundle(_WriteShard(str(tmp_path), SETTINGS), list(made)) == ["photos-00000-of-00001.tfrecord"]
    assert (tmp_path / "photos-00000-of-00001.tfrecord").read_bytes() == b""


def test_a_second_attempt_publishes_the_same_bytes(tmp_path: Path) -> None:
    run_bundle(_WriteShard(str(tmp_path), SETTINGS), elements())
    before = tree_bytes(tmp_path)
    run_bundle(_WriteShard(str(tmp_path), SETTINGS), elements())
    assert tree_bytes(tmp_path) == before and len(before) == 2


def test_two_attempts_at_once_end_with_the_same_bytes(tmp_path: Path) -> None:
    run_bundle(_WriteShard(str(tmp_path / "alone"), SETTINGS), elements())
    one, two = (_WriteShard(str(tmp_path / "both"), SETTINGS) for _ in range(2))
    one.start_bundle()
    two.start_bundle()
    for element in elements():
        list(one.process(element))
        list(two.process(element))
    for writer in (one, two):
        assert len(list(writer.finish_bundle())) == 1
    assert tree_bytes(tmp_path / "both") == tree_bytes(tmp_path / "alone")


def test_the_transform_names_and_counts_what_it_writes(tmp_path: Path) -> None:
    reset_local_counts()
    pipeline = Pipeline()
    made = [*elements("val 2014"), *elements("[1]*", count=2)]
    written = pipeline | beam.Create(made, reshuffle=False) | WriteShards(str(tmp_path), SETTINGS)
    assert_that(written, equal_to(["val 2014-00000-of-00001.tfrecord", "[1]*-00000-of-00001.tfrecord"]))
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    counts = {counter.key.metric.name: counter.committed for counter in counters}
    assert counts == {IMAGES_WRITTEN: 4, IMAGES_FAILED: 2}
    assert local_counts() == counts
    reset_local_counts()
    assert local_counts() == {}
    before = tree_bytes(tmp_path)
    assert len(before) == 4
    with Pipeline() as again:
        _ = again | beam.Create(made, reshuffle=False) | WriteShards(str(tmp_path), SETTINGS)
    assert tree_bytes(tmp_path) == before


def test_a_shard_file_is_whole_when_all_its_images_came(tmp_path: Path) -> None:
    made = elements(count=2)
    shard = ShardWriter(made[0][0].shard, str(tmp_path), SETTINGS)
    whole = [shard.is_whole]
    for item, result in made:
        shard.add(item, result)
        whole.append(shard.is_whole)
    assert whole == [False, False, True]
    assert shard.publish().result().ids == ("photos_00",)
