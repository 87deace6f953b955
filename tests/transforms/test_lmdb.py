"""LMDBs built from shards: read by VOLTA's reader, the same bytes for the same shards, errors that name the cause."""

from __future__ import annotations

import base64
import dataclasses
import errno
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest

from region_features.exports import merged_lmdb
from region_features.exports.lmdb import LmdbExport
from region_features.formats.example import ImageExample, decode_example
from region_features.formats.volta import decode_volta
from region_features.lmdb_store.value_codecs import VALUE_CODECS, codec_name_of
from region_features.records.build_note import BuildNote
from region_features.records.key import lmdb_key
from tests.conftest import ROOT
from tests.samples.exports import build, is_current, sources_of
from tests.samples.lmdbs import TRAIN, VAL, digest_of, lmdb_job, make_job, read_as_volta, write_set
from tests.samples.records import assert_same, make_record, write_shard
from transforms.exports import ExportJob, build_export


@pytest.mark.parametrize("batch_bytes", [1, 1 << 20])
def test_volta_reads_what_the_shards_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_bytes: int) -> None:
    monkeypatch.setattr(merged_lmdb, "BATCH_BYTES", batch_bytes)
    job = make_job(tmp_path, boxes=36, width=64)
    size = build(job)["files"]["data.mdb"]
    assert size == os.path.getsize(f"{job.folder}/data.mdb")
    items = read_as_volta(job.folder)
    assert list(items) == sorted(lmdb_key(img_id) for img_id in TRAIN + VAL)
    for img_id in TRAIN + VAL:
        item, record = items[lmdb_key(img_id)], make_record(img_id, boxes=36, width=64)
        count = int(item["num_boxes"])
        features = np.frombuffer(base64.b64decode(item["features"]), dtype=np.float32).reshape(count, -1)
        assert features.shape == (36, 64) and features.tobytes() == record.features.tobytes()
        assert item["img_id"] == img_id and int(item["img_h"]) == 480
        assert item["classes"] == item["cls_prob"]
        assert_same(decode_volta(pickle.dumps(item), "x"), record)
    assert sorted(os.listdir(job.folder)) == ["data.mdb", "source.json"]


def test_stems_as_keys_sort_around_the_key_list_and_images_may_have_no_boxes(tmp_path: Path) -> None:
    ids = sorted(["zebra", "keyt", "alpha", "Übung", "k"], key=lmdb_key)
    job = lmdb_job(tmp_path, {"a": (write_set(tmp_path / "a.tfrecord", ids, boxes=0),)})
    assert build(job)["records"] == 5
    items = read_as_volta(job.folder)
    assert [item["img_id"] for item in items.values()] == ids
    assert {item["num_boxes"] for item in items.values()} == {"0"}


def test_no_records_give_an_empty_key_list(tmp_path: Path) -> None:
    job = lmdb_job(tmp_path, {"train2014": (), "val2014": (write_set(tmp_path / "a.tfrecord", []),)})
    assert build(job)["records"] == 0
    assert read_as_volta(job.folder) == {}


def test_the_file_is_as_large_as_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merged_lmdb, "BATCH_BYTES", 1 << 20)
    ids = sorted((f"image_{number}" for number in range(60)), key=lmdb_key)
    job = lmdb_job(tmp_path, {"a": (write_set(tmp_path / "a.tfrecord", ids, boxes=36, width=512),)})
    size = build(job)["files"]["data.mdb"]
    status = os.stat(f"{job.folder}/data.mdb")
    with lmdb.open(job.folder, readonly=True, lock=False) as env:
        page = env.stat()["psize"]
        pages = env.info()["last_pgno"] + 1
        stored = sum(len(value) for _, value in env.begin().cursor())
    assert size == status.st_size
    assert abs(status.st_size - pages * page) <= 0.01 * status.st_size
    assert status.st_blocks * 512 >= 0.99 * status.st_size
    assert stored <= status.st_size <= stored + 60 * page + 0.03 * status.st_size


BUILD_IN_CHILD = """
import json, sys, time
from region_features.exports import merged_lmdb
from tests.samples.lmdbs import lmdb_job
from transforms.exports import build_export
output, shards, digest, mode = json.loads(sys.argv[1])
merged_lmdb.BATCH_BYTES = 1
def stay(what, done):
    if mode == "stay" and done == 3:
        print("three", flush=True)
        time.sleep(600)
build_export(lmdb_job(output, {name: tuple(paths) for name, paths in shards.items()}, digest), stay)
"""


def child_command(job: ExportJob, mode: str, before: str = "") -> list[str]:
    arguments = json.dumps([job.output, job.shards, job.source_digest, mode])
    return [sys.executable, "-c", before + BUILD_IN_CHILD, arguments]


def start_child(job: ExportJob, mode: str, **environment: str) -> subprocess.Popen[str]:
    env = {**os.environ, **environment}
    return subprocess.Popen(child_command(job, mode), cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)


def test_same_shards_give_the_same_bytes(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    digests = set()
    for number, perturb in enumerate(("85", "170")):  # glibc fills fresh memory with it
        other = dataclasses.replace(job, output=str(tmp_path / f"elsewhere{number}"))
        child = start_child(other, "run", MALLOC_PERTURB_=perturb)
        child.communicate(timeout=120)
        assert child.returncode == 0
        digests.add(digest_of(other.folder))
    assert len(digests) == 1


def test_a_killed_build_leaves_the_old_lmdb_and_the_next_one_tidies(tmp_path: Path) -> None:
    old, new = make_job(tmp_path / "in"), make_job(tmp_path / "in2", digest="d2", seed=2)
    new = dataclasses.replace(new, output=old.output)
    build(old)
    before, items = digest_of(old.folder), read_as_volta(old.folder)
    child = start_child(new, "stay")
    assert child.stdout is not None and child.stdout.readline() == "three\n"
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    (left,) = [name for name in os.listdir(old.output) if name.startswith(".")]
    assert left.startswith(".tmp-lmdb-trainval_feat.lmdb-")
    assert digest_of(old.folder) == before and read_as_volta(old.folder) == items
    assert not is_current(new)
    assert read_as_volta(old.folder) != items
    assert not [name for name in os.listdir(old.output) if name.startswith(".")]


def test_a_current_lmdb_is_left_alone_and_any_change_builds_it_anew(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    first = build(job)
    data = Path(job.folder, "data.mdb")
    assert is_current(job) and build(job) == first
    assert not is_current(dataclasses.replace(job, source_digest="d2"))
    Path(job.folder, "source.json").write_text("{")
    assert not is_current(job)
    with open(data, "ab") as stream:
        stream.write(b"x")
    assert not is_current(job)
    assert data.stat().st_size == first["files"]["data.mdb"]
    assert is_current(job)


def expect_failure(job: ExportJob, kind: type[Exception], *messages: str) -> None:
    with pytest.raises(kind) as caught:
        build(job)
    for message in messages:
        assert message in str(caught.value)
    assert not os.path.exists(job.folder)
    assert not [name for name in os.listdir(job.output) if name.startswith(".tmp-")]


def test_two_images_with_one_key_are_both_named(tmp_path: Path) -> None:
    one = write_set(tmp_path / "train.tfrecord", ["COCO_train2014_000000000001", "COCO_train2014_000000000007"])
    two = write_set(tmp_path / "val.tfrecord", ["COCO_val2014_000000000007"])
    names = ("COCO_train2014_000000000007", "COCO_val2014_000000000007", "b'7'", one, two)
    job = lmdb_job(tmp_path, {"train2014": (one,), "val2014": (two,)})
    expect_failure(job, ValueError, "expected one image a key", *names)
    expect_failure(lmdb_job(tmp_path, {"a": (one, two)}), ValueError, "expected one image a key", *names)


def test_keys_out_of_order_name_both_and_their_shards(tmp_path: Path) -> None:
    one, two = write_set(tmp_path / "1.tfrecord", ["a_1", "a_3"]), write_set(tmp_path / "2.tfrecord", ["a_2"])
    job = lmdb_job(tmp_path, {"a": (one, two)})
    expect_failure(job, ValueError, "expected ascending keys", f"a_3 ({one})", "b'3'", f"a_2 ({two})", "b'2'")


def test_damaged_and_missing_shards_are_named(tmp_path: Path) -> None:
    shard = write_set(tmp_path / "a.tfrecord", ["a_1", "a_2"])
    job = lmdb_job(tmp_path, {"a": (shard,)})
    with open(shard, "r+b") as stream:
        stream.truncate(os.path.getsize(shard) - 1)
    expect_failure(job, ValueError, f"{shard}, record at byte", "expected 4 bytes of checksum, got 3")
    os.remove(shard)
    expect_failure(job, FileNotFoundError, f"expected the shard {shard}, got nothing")


def test_no_room_names_the_place_and_the_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny_map(_: int) -> int:
        return 1 << 16

    monkeypatch.setattr(merged_lmdb, "map_size_for", tiny_map)
    job = make_job(tmp_path, boxes=36, width=256)
    need = sum(os.path.getsize(shard) for paths in job.shards.values() for shard in paths) * 3 // 2
    expect_failure(job, OSError, job.folder, f"expected room for about {need:,} bytes in {tmp_path}", "MDB_MAP_FULL")


def test_a_full_disk_names_the_place_and_the_need(tmp_path: Path) -> None:
    job = make_job(tmp_path, boxes=36, width=256)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    child = subprocess.run(
        child_command(job, "run", limit), cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=120, check=False
    )
    assert f"LMDB {job.folder}: expected room for about" in child.stderr.splitlines()[-1]
    assert f"[Errno {errno.ENOSPC}]" in child.stderr.splitlines()[-1]
    assert not os.path.exists(job.folder)


def test_a_file_in_the_way_stays(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    Path(job.folder).parent.mkdir(parents=True)
    Path(job.folder).write_text("precious")
    with pytest.raises(FileExistsError, match="expected a folder or nothing there"):
        build(job)
    assert Path(job.folder).read_text() == "precious"


def test_progress_rises_to_the_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merged_lmdb, "BATCH_BYTES", 1)
    written: list[int] = []

    def remember(what: str, done: int) -> None:
        assert what == "records_written"
        written.append(done)

    build_export(make_job(tmp_path), remember)
    assert written[-1] == 10 and written == sorted(written) and set(written) >= set(range(1, 11))


def test_merging_reads_one_record_ahead_of_each_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def spy(data: bytes, source: str) -> ImageExample:
        read.append(decode_example(data, source).record.img_id)
        return decode_example(data, source)

    monkeypatch.setattr("region_features.exports.base.decode_example", spy)
    job = make_job(tmp_path)
    sources = dataclasses.replace(sources_of(), shards=job.shards)
    for number, entry in enumerate(merged_lmdb.merge_sets(sources), start=1):
        assert entry.record.img_id in read
        assert len(read) <= number + len(job.shards)
    assert len(read) == 10


@pytest.mark.parametrize("form", VALUE_CODECS)
def test_every_form_is_built_and_its_note_names_it(tmp_path: Path, form: str) -> None:
    job = make_job(tmp_path, form=form)
    first = build(job)
    note = BuildNote.from_json(Path(job.folder, "source.json").read_bytes(), "note")
    assert first["lmdb_form"] == note.settings["lmdb_form"] == codec_name_of(job.folder) == form
    assert is_current(job)
    digest = digest_of(job.folder)
    build(dataclasses.replace(job, source_digest="d2"))
    assert digest_of(job.folder) == digest


def test_another_form_is_built_anew(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    build(job)
    for form in ("safetensors", "volta-arrays", "volta"):
        assert not is_current(make_job(tmp_path, form=form))
        assert codec_name_of(job.folder) == form


def test_an_lmdb_without_a_note_has_voltas_form(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    build(job)
    os.remove(Path(job.folder, "source.json"))
    assert codec_name_of(job.folder) == "volta"


def test_a_value_too_large_for_float16_names_image_and_field(tmp_path: Path) -> None:
    record = make_record("a_1")
    large = dataclasses.replace(record, features=record.features + np.float32(1e5))
    shard = write_shard(tmp_path / "a.tfrecord", [large])
    job = lmdb_job(tmp_path, {"a": (shard,)}, form="safetensors-float16")
    expect_failure(job, ValueError, "image a_1, field features: expected values within 65504 of zero")


def test_targets_are_named_after_volta_and_other_sets() -> None:
    sets = ("photos", "test2015", "train2014", "val2014")
    targets = {target.name: target for target in LmdbExport().targets(sets, {})}
    assert {name: target.sets for name, target in targets.items()} == {
        "photos_feat.lmdb": ("photos",),
        "test_feat.lmdb": ("test2015",),
        "trainval_feat.lmdb": ("train2014", "val2014"),
    }
    assert targets["test_feat.lmdb"].folder == "resnet101_faster_rcnn_genome_imgfeats/volta/test_feat.lmdb"
