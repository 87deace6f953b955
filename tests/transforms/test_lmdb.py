from __future__ import annotations

import base64
import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import lmdb
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to

from region_features.formats.example import ImageExample, decode_example
from region_features.formats.volta import decode_volta
from region_features.lmdb_store.value_codecs import VALUE_CODECS, form_of
from region_features.lmdb_store.writer import LmdbItem, write_lmdb
from region_features.records.key import lmdb_key
from tests.conftest import ROOT
from tests.samples.lmdbs import TRAIN, VAL, digest_of, make_job, read_as_volta, write_set
from tests.samples.records import assert_same, make_record, write_shard
from transforms import lmdb as lmdb_transforms
from transforms import metrics
from transforms.lmdb import BuildLmdb, LmdbJob, LmdbResult, build_lmdb


@pytest.mark.parametrize("batch_bytes", [1, 1 << 20])
def test_volta_reads_what_the_shards_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_bytes: int) -> None:
    monkeypatch.setattr(lmdb_transforms, "BATCH_BYTES", batch_bytes)
    job = make_job(tmp_path, boxes=36, width=64)
    result = build_lmdb(job)
    size = os.path.getsize(f"{job.output}/data.mdb")
    assert result == LmdbResult("trainval", job.output, 10, size, skipped=False)
    items = read_as_volta(job.output)
    assert list(items) == sorted(lmdb_key(img_id) for img_id in TRAIN + VAL)
    for img_id in TRAIN + VAL:
        item, record = items[lmdb_key(img_id)], make_record(img_id, boxes=36, width=64)
        count = int(item["num_boxes"])
        features = np.frombuffer(base64.b64decode(item["features"]), dtype=np.float32).reshape(count, -1)
        assert features.shape == (36, 64) and features.tobytes() == record.features.tobytes()
        assert item["img_id"] == img_id and int(item["img_h"]) == 480
        assert item["classes"] == item["cls_prob"]
        assert_same(decode_volta(pickle.dumps(item), "x"), record)
    assert sorted(os.listdir(job.output)) == ["data.mdb", "source.json"]


def test_stems_zero_boxes_and_keys_around_the_key_list(tmp_path: Path) -> None:
    ids = sorted(["zebra", "keyt", "alpha", "Übung", "k"], key=lmdb_key)
    shard = write_set(tmp_path / "a.tfrecord", ids, boxes=0)
    job = LmdbJob("a", str(tmp_path / "a_feat.lmdb"), ((shard,),), "d")
    assert build_lmdb(job).records == 5
    items = read_as_volta(job.output)
    assert [item["img_id"] for item in items.values()] == ids
    assert {item["num_boxes"] for item in items.values()} == {"0"}


def test_no_records_give_an_empty_key_list(tmp_path: Path) -> None:
    job = LmdbJob("a", str(tmp_path / "a_feat.lmdb"), ((), (write_set(tmp_path / "a.tfrecord", []),)), "d")
    assert build_lmdb(job).records == 0
    assert read_as_volta(job.output) == {}


def test_file_is_as_large_as_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_transforms, "BATCH_BYTES", 1 << 20)
    ids = sorted((f"image_{number}" for number in range(60)), key=lmdb_key)
    job = LmdbJob("a", str(tmp_path / "a"), ((write_set(tmp_path / "a.tfrecord", ids, boxes=36, width=512),),), "d")
    size = build_lmdb(job).bytes
    status = os.stat(f"{job.output}/data.mdb")
    with lmdb.open(job.output, readonly=True, lock=False) as env:
        page = env.stat()["psize"]
        pages = env.info()["last_pgno"] + 1
        stored = sum(len(value) for _, value in env.begin().cursor())
    assert size == status.st_size
    assert abs(status.st_size - pages * page) <= 0.01 * status.st_size
    assert status.st_blocks * 512 >= 0.99 * status.st_size
    assert stored <= status.st_size <= stored + 60 * page + 0.03 * status.st_size


BUILD_IN_CHILD = """
import json, sys, time
from transforms import lmdb as lmdb_file
name, output, shards, digest, mode = json.loads(sys.argv[1])
lmdb.BATCH_BYTES = 1
def stay(done):
    if mode == "stay" and done == 3:
        print("three", flush=True)
        time.sleep(600)
lmdb.build_lmdb(lmdb.LmdbJob(name, output, shards, digest), stay)
"""


def start_child(job: LmdbJob, mode: str, **environment: str) -> subprocess.Popen[str]:
    arguments = json.dumps([job.name, job.output, job.shards, job.source_digest, mode])
    return subprocess.Popen(
        [sys.executable, "-c", BUILD_IN_CHILD, arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_same_shards_give_the_same_bytes(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    digests = set()
    for number, perturb in enumerate(("85", "170")):  # glibc fills fresh memory with it
        other = dataclasses.replace(job, output=str(tmp_path / f"elsewhere{number}"))
        child = start_child(other, "run", MALLOC_PERTURB_=perturb)
        child.communicate(timeout=120)
        assert child.returncode == 0
        digests.add(digest_of(other.output))
    assert len(digests) == 1


def test_a_killed_build_leaves_the_old_lmdb_and_the_next_one_tidies(tmp_path: Path) -> None:
    old, new = make_job(tmp_path / "in"), make_job(tmp_path / "in2", digest="d2", seed=2)
    new = dataclasses.replace(new, output=old.output)
    build_lmdb(old)
    before, items = digest_of(old.output), read_as_volta(old.output)
    child = start_child(new, "stay")
    assert child.stdout is not None and child.stdout.readline() == "three\n"
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    left = [name for name in os.listdir(tmp_path / "in") if name.startswith(".")]
    assert len(left) == 1 and left[0].startswith(".trainval_feat.lmdb.tmp-")
    assert digest_of(old.output) == before and read_as_volta(old.output) == items
    assert not build_lmdb(new).skipped
    assert read_as_volta(old.output) != items
    assert not [name for name in os.listdir(tmp_path / "in") if name.startswith(".")]


def test_unchanged_is_skipped_and_changed_is_not(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    first = build_lmdb(job)
    data = Path(job.output, "data.mdb")
    inode = data.stat().st_ino
    assert build_lmdb(job) == dataclasses.replace(first, skipped=True)
    assert data.stat().st_ino == inode
    assert not build_lmdb(dataclasses.replace(job, source_digest="d2")).skipped
    Path(job.output, "source.json").write_text("{")
    assert not build_lmdb(job).skipped
    with open(data, "ab") as stream:
        stream.write(b"x")
    assert not build_lmdb(job).skipped
    assert data.stat().st_size == first.bytes
    assert build_lmdb(job).skipped


def expect_failure(job: LmdbJob, kind: type[Exception], *messages: str) -> None:
    with pytest.raises(kind) as caught:
        build_lmdb(job)
    for message in messages:
        assert message in str(caught.value)
    parent, name = os.path.split(job.output)
    assert not [entry for entry in os.listdir(parent) if name in entry]


def test_one_key_twice_names_both_images(tmp_path: Path) -> None:
    one = write_set(tmp_path / "train.tfrecord", ["COCO_train2014_000000000001", "COCO_train2014_000000000007"])
    two = write_set(tmp_path / "val.tfrecord", ["COCO_val2014_000000000007"])
    job = LmdbJob("a", str(tmp_path / "a_feat.lmdb"), ((one,), (two,)), "d")
    names = ("COCO_train2014_000000000007", "COCO_val2014_000000000007", "b'7'", one, two)
    expect_failure(job, ValueError, "expected one image a key", *names)
    expect_failure(dataclasses.replace(job, shards=((one, two),)), ValueError, "expected one image a key", *names)


def test_keys_out_of_order_name_both_and_their_shards(tmp_path: Path) -> None:
    one, two = write_set(tmp_path / "1.tfrecord", ["a_1", "a_3"]), write_set(tmp_path / "2.tfrecord", ["a_2"])
    job = LmdbJob("a", str(tmp_path / "a_feat.lmdb"), ((one, two),), "d")
    expect_failure(job, ValueError, "expected ascending keys", f"a_3 ({one})", "b'3'", f"a_2 ({two})", "b'2'")


def test_the_writer_checks_the_order_itself(tmp_path: Path) -> None:
    batches = [[LmdbItem(b"b", b"1", "s0")], [LmdbItem(b"a", b"2", "s1")]]
    with pytest.raises(ValueError, match="s1: expected ascending LMDB keys, got b'a' after b'b'"):
        write_lmdb(str(tmp_path), batches, 1 << 20, b"".join)


def test_damaged_and_missing_shards_are_named(tmp_path: Path) -> None:
    shard = write_set(tmp_path / "a.tfrecord", ["a_1", "a_2"])
    job = LmdbJob("a", str(tmp_path / "a_feat.lmdb"), ((shard,),), "d")
    with open(shard, "r+b") as stream:
        stream.truncate(os.path.getsize(shard) - 1)
    expect_failure(job, ValueError, f"{shard}, record at byte", "expected 4 bytes of checksum, got 3")
    os.remove(shard)
    expect_failure(job, FileNotFoundError, f"expected the shard {shard}, got nothing")


def test_no_room_names_the_place_and_the_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny_map(_: int) -> int:
        return 1 << 16

    monkeypatch.setattr(lmdb_transforms, "map_size_for", tiny_map)
    job = make_job(tmp_path, boxes=36, width=256)
    need = sum(os.path.getsize(shard) for one in job.shards for shard in one) * 3 // 2
    expect_failure(job, OSError, job.output, f"expected room for about {need:,} bytes in {tmp_path}", "MDB_MAP_FULL")


def test_a_failure_of_the_disk_is_told_the_same_way(tmp_path: Path) -> None:
    job = make_job(tmp_path, boxes=36, width=256)
    script = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))" + BUILD_IN_CHILD
    arguments = json.dumps([job.name, job.output, job.shards, "d", "run"])
    command = [sys.executable, "-c", script, arguments]
    child = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert f"LMDB {job.output}: expected room for about" in child.stderr.splitlines()[-1]
    assert not [name for name in os.listdir(tmp_path) if "trainval_feat" in name]


def test_a_file_in_the_way_stays(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    Path(job.output).write_text("precious")
    with pytest.raises(FileExistsError, match="expected a folder or nothing there"):
        build_lmdb(job)
    assert Path(job.output).read_text() == "precious"


def test_progress_rises_to_the_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_transforms, "BATCH_BYTES", 1)
    done: list[int] = []
    build_lmdb(make_job(tmp_path), done.append)
    assert done[-1] == 10 and done == sorted(done) and set(done) >= set(range(1, 11))


def test_transform_builds_and_counts(tmp_path: Path) -> None:
    metrics.reset_local_counts()
    job = make_job(tmp_path)
    size = build_lmdb(dataclasses.replace(job, output=str(tmp_path / "other"))).bytes
    with beam.Pipeline() as pipeline:
        results = pipeline | beam.Create([job]) | BuildLmdb()
        assert_that(results, equal_to([LmdbResult("trainval", job.output, 10, size, skipped=False)]))
    assert metrics.local_counts()["lmdb_records_written"] == 10
    assert len(read_as_volta(job.output)) == 10


def test_merging_reads_one_record_ahead_of_each_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def spy(data: bytes, source: str) -> ImageExample:
        read.append(decode_example(data, source).record.img_id)
        return decode_example(data, source)

    monkeypatch.setattr(lmdb_transforms, "decode_example", spy)
    job = make_job(tmp_path)
    for number, entry in enumerate(lmdb_transforms.merge_sets(job.shards), start=1):
        assert entry.record.img_id in read
        assert len(read) <= number + len(job.shards)
    assert len(read) == 10


@pytest.mark.parametrize("form", VALUE_CODECS)
def test_every_form_is_built_and_says_which_it_is(tmp_path: Path, form: str) -> None:
    job = make_job(tmp_path, form=form)
    first = build_lmdb(job)
    assert first.form == form and json.loads(Path(job.output, "source.json").read_text())["form"] == form
    assert build_lmdb(job) == dataclasses.replace(first, skipped=True)
    again = digest_of(job.output)
    build_lmdb(dataclasses.replace(job, source_digest="d2"))
    assert digest_of(job.output) == again


def test_another_form_is_built_anew(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    build_lmdb(job)
    for form in ("compact", "volta-arrays", "volta"):
        assert not build_lmdb(dataclasses.replace(job, form=form)).skipped
        assert form_of(job.output) == form
    source = Path(job.output, "source.json")
    note = json.loads(source.read_text())
    del note["form"]  # as it was before there were forms
    source.write_text(json.dumps(note))
    assert build_lmdb(job).skipped


def test_a_value_too_large_for_float16_names_image_and_field(tmp_path: Path) -> None:
    record = make_record("a_1")
    large = dataclasses.replace(record, features=record.features + np.float32(1e5))
    shard = write_shard(tmp_path / "a.tfrecord", [large])
    job = LmdbJob("a", str(tmp_path / "a_feat.lmdb"), ((shard,),), "d", "compact-float16")
    expect_failure(job, ValueError, "image a_1, field features: expected values within 65504 of zero")
