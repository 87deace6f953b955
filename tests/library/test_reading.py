"""RegionFeatures returns the same records from LMDBs and shards, in this process and in workers."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from beam_pipeline.pipeline import main as run_pipeline
from region_features import RegionFeatures
from region_features.formats.example import encode_example
from region_features.formats.tfrecord import record_offsets, write_record
from region_features.lmdb_store.value_codecs import VALUE_CODECS
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord
from tests.conftest import ROOT, TINY_WEIGHTS
from tests.samples.exports import build
from tests.samples.fakes import FakeHandler, fake_prepare
from tests.samples.lmdbs import TRAIN, VAL, make_job
from tests.samples.reading import ItemsWithPid, unbatch
from tests.samples.records import make_example, make_record, write_shard

SHARDS = "shards"
KINDS = (*VALUE_CODECS, SHARDS)
# At least one form of each value codec.
IN_WORKERS = ("volta", "volta-arrays", "safetensors", "safetensors-float16", SHARDS)
LMDB = Path("resnet101_faster_rcnn_genome_imgfeats") / "volta" / "trainval_feat.lmdb"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sets of two shards each, without stats, and their LMDB."""
    build(make_job(tmp_path / "some"))
    return tmp_path / "some"


@pytest.fixture
def out(corpus: Path, tmp_path: Path) -> Path:
    flags = ["--corpus", corpus, "--weights", TINY_WEIGHTS, "--output", tmp_path / "out", "--num_shards", 2]
    assert run_pipeline([str(flag) for flag in flags], FakeHandler(), fake_prepare) == 0
    return tmp_path / "out"


def open_features(kind: str, folder: Path) -> RegionFeatures:
    """Open the shards, or an LMDB of this form of the same records."""
    if kind == SHARDS:
        return RegionFeatures(folder)
    build(make_job(folder, form=kind))
    return RegionFeatures(folder / LMDB)


def stored_record(kind: str, img_id: str) -> RegionRecord:
    record = make_record(img_id)
    return record if kind == SHARDS else VALUE_CODECS[kind].kept(record)


def assert_item(item: dict[str, Any], record: RegionRecord) -> None:
    assert (item["img_id"], item["img_h"], item["img_w"]) == (record.img_id, record.img_h, record.img_w)
    assert item["num_boxes"] == record.num_boxes
    for field in ARRAY_FIELDS:
        array = getattr(record, field.name)
        assert item[field.name].dtype == array.dtype and item[field.name].shape == array.shape
        assert item[field.name].tobytes() == array.tobytes()
        assert item[field.name].flags.writeable and item[field.name].flags.owndata


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_found_by_position_id_and_key(kind: str, folder: Path) -> None:
    features = open_features(kind, folder)
    assert len(features) == len(TRAIN + VAL)
    assert sorted(features.keys) == sorted(str(int(img_id.split("_")[-1])) for img_id in TRAIN + VAL)
    for img_id in TRAIN + VAL:
        key = str(int(img_id.split("_")[-1]))
        assert_item(features[img_id], stored_record(kind, img_id))
        assert features[key]["img_id"] == img_id
        assert img_id in features and key in features
    for position, key in enumerate(features.keys):
        assert features[position]["img_id"] == features[key]["img_id"]
        assert features[np.int64(position)]["img_id"] == features[position - len(features)]["img_id"]
    assert [item["img_id"] for item in features] == [features[key]["img_id"] for key in features.keys]


@pytest.mark.parametrize("kind", KINDS)
def test_missing_ids_keys_and_positions_are_refused(kind: str, folder: Path) -> None:
    features = open_features(kind, folder)
    for name in ("COCO_train2014_000000000777", "777", "", "COCO_val2014_000000000010", "keys", "a" * 600):
        assert name not in features
        with pytest.raises(KeyError, match="some"):
            features[name]
    assert 3 not in features
    for position in (len(features), -len(features) - 1):
        with pytest.raises(IndexError, match=f"below {len(features)}, got {position}"):
            features[position]
    with pytest.raises(TypeError):
        features[1.5]  # type: ignore[index]


def test_items_of_shards_have_captions_and_items_of_lmdbs_have_none(folder: Path) -> None:
    item = RegionFeatures(folder)[TRAIN[0]]
    assert item["captions"] == ["Ein Hund läuft. ", "a dog"] and item["split"] == "val"
    assert item["caption_ids"].tolist() == [770337, 770338] and item["caption_ids"].dtype == np.int64
    assert "captions" not in RegionFeatures(folder / LMDB)[TRAIN[0]]


def test_an_output_is_read_from_its_shards_or_else_from_its_lmdb(out: Path, tmp_path: Path) -> None:
    assert RegionFeatures(out).keys == RegionFeatures(out / "tfrecord").keys
    assert "captions" in RegionFeatures(out)[0]
    (out / "tfrecord").rename(tmp_path / "moved")
    lmdbs = out / LMDB.parent
    with pytest.raises(ValueError, match=r"expected shards or one LMDB, found 2; name one: .*test_feat\.lmdb, "):
        RegionFeatures(out)
    (lmdbs / "test_feat.lmdb").rename(tmp_path / "test_feat.lmdb")
    features = RegionFeatures(out)
    assert features.keys == RegionFeatures(out / LMDB).keys and len(features) == 12
    assert "captions" not in features[0]
    (out / LMDB).rename(tmp_path / "trainval_feat.lmdb")
    with pytest.raises(FileNotFoundError, match=r"out: expected an LMDB folder .* or a run's output"):
        RegionFeatures(out)


def test_folders_globs_and_single_shards_are_read_with_and_without_stats(out: Path) -> None:
    assert len(RegionFeatures(out / "tfrecord")) == 15
    train = RegionFeatures(str(out / "tfrecord" / "train2014-*.tfrecord"))
    assert train.keys == ("10", "11", "12", "13", "14", "15", "9")
    shard = RegionFeatures(out / "tfrecord" / "train2014-00000-of-00002.tfrecord")
    assert shard.keys == ("10", "11", "12")
    stats_files = list((out / "tfrecord").glob("train*.stats.json"))
    assert len(stats_files) == 2
    for path in stats_files:
        path.unlink()
    without_stats = RegionFeatures(str(out / "tfrecord" / "train2014-*.tfrecord"))
    assert list(map(repr, without_stats)) == list(map(repr, train))
    lmdb_item = RegionFeatures(out / LMDB)["9"]
    np.testing.assert_array_equal(lmdb_item["features"], train["9"]["features"])


def test_an_id_or_key_that_two_sets_share_is_refused_unless_one_set_is_opened(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shard(tmp_path / f"{name}-00000-of-00001.tfrecord", [make_record("x_1"), make_record(f"{name}_2")])
    features = RegionFeatures(tmp_path)
    for name in ("x_1", "1", "2"):
        with pytest.raises(KeyError, match=f"several sets have an image '{name}'"):
            features[name]
    assert features["b_2"]["img_id"] == "b_2" and len(features) == 4
    assert RegionFeatures(str(tmp_path / "a-*"))["1"]["img_id"] == "x_1"


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("kind", IN_WORKERS)
def test_data_loader_workers_read_the_same_items(method: str, kind: str, folder: Path) -> None:
    features = open_features(kind, folder)
    used_before = list(features)
    dataset: Any = ItemsWithPid(features)
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=1,
        num_workers=2,
        collate_fn=unbatch,
        multiprocessing_context=method,
        persistent_workers=True,
    )
    for _ in range(2):
        pids, items = zip(*loader, strict=True)
        assert len({*pids} - {os.getpid()}) == 2
        assert list(map(repr, items)) == list(map(repr, used_before))
    assert repr(features[0]) == repr(used_before[0])


def test_torch_collates_arrays_of_equal_shapes(folder: Path) -> None:
    class Arrays(ItemsWithPid):
        def __getitem__(self, index: int) -> Any:
            return {name: self.features[index][name] for name in ("img_id", "features", "boxes")}

    dataset: Any = Arrays(RegionFeatures(folder))
    batch = next(iter(DataLoader(dataset, batch_size=4)))
    assert batch["features"].shape == (4, 3, 16) and batch["features"].dtype == torch.float32
    assert batch["img_id"] == TRAIN[:4]


@pytest.mark.parametrize("kind", KINDS)
def test_open_features_can_be_pickled_and_forked(kind: str, folder: Path) -> None:
    features = open_features(kind, folder)
    before = repr(features[2])
    copy = pickle.loads(pickle.dumps(features))
    assert repr(copy[2]) == before  # both are open in one process
    assert repr(copy) == repr(features) and copy.keys == features.keys
    pid = os.fork()
    if not pid:
        os._exit(0 if repr(features[2]) == repr(copy[2]) == before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert repr(features[2]) == before


def test_a_rebuilt_lmdb_is_read_when_opened_again_and_the_old_one_stays_readable(tmp_path: Path) -> None:
    job = make_job(tmp_path / "some")
    build(job)
    old = RegionFeatures(job.folder)
    assert old["10"]["features"].shape == (3, 16)
    build(make_job(tmp_path / "some", "d2", width=24))
    assert RegionFeatures(job.folder)["10"]["features"].shape == (3, 24)
    assert old["10"]["features"].shape == (3, 16)


def test_lmdbs_of_other_programs_are_read_without_running_pickled_code(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), map_size=1 << 20) as env, env.begin(write=True) as transaction:
        transaction.put(b"keys", pickle.dumps([b"1"], protocol=3))
        transaction.put(b"1", pickle.dumps(print))
    features = RegionFeatures(tmp_path)
    assert features.keys == ["1"]
    with pytest.raises(ValueError, match=r"key b'1': .*asks for builtins.print"):
        features["1"]
    del features  # lmdb refuses to open a file twice in one process
    with lmdb.open(str(tmp_path), map_size=1 << 20) as env, env.begin(write=True) as transaction:
        transaction.put(b"keys", pickle.dumps(print))
    with pytest.raises(ValueError, match=r"record keys: .*asks for builtins.print"):
        len(RegionFeatures(tmp_path))


def test_damaged_and_replaced_files_are_named(folder: Path, tmp_path: Path) -> None:
    shard = folder / "train2014-0.tfrecord"
    data = bytearray(shard.read_bytes())
    features = RegionFeatures(folder)
    data[-100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ValueError, match=r"train2014-0.tfrecord, from byte \d+ on.*checksum"):
        features[2]
    write_shard(shard, [make_record(img_id, seed=1) for img_id in TRAIN[1:3] + TRAIN[:1]])
    with pytest.raises(ValueError, match=r"expected image .*10 at byte 0, got .*100; the shard was replaced"):
        features[0]
    shard.write_bytes(data[:-9])
    with pytest.raises(ValueError, match=r"train2014-0.tfrecord, record at byte .*: expected it to end at byte"):
        RegionFeatures(folder)
    mdb = folder / LMDB / "data.mdb"
    mdb.write_bytes(mdb.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"expected data.mdb of \d+ bytes, got 5000"):
        len(RegionFeatures(folder / LMDB))


def test_a_shard_that_differs_from_its_stats_is_refused(out: Path) -> None:
    shard = out / "tfrecord" / "train2014-00000-of-00002.tfrecord"
    with shard.open("ab") as stream:
        write_record(stream, encode_example(make_example(make_record("one_more"))))
    with pytest.raises(ValueError, match=r"expected 3 records in .* as its stats file says, got 4"):
        RegionFeatures(out / "tfrecord")


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_a_torn_record_header_is_refused(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"\0" * cut)
    with path.open("rb", buffering=0) as stream, pytest.raises(ValueError, match=f"12 bytes of header, got {cut}"):
        list(record_offsets(stream, cut, path.name))
    path.write_bytes(b"\1" * 40)
    with (
        path.open("rb", buffering=0) as stream,
        pytest.raises(ValueError, match="expected checksum 0x01010101 of the length"),
    ):
        list(record_offsets(stream, 40, path.name))


def test_paths_without_features_and_remote_paths_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", tmp_path / "*.tfrecord"):
        with pytest.raises(FileNotFoundError, match="expected an LMDB folder"):
            RegionFeatures(path)
    with pytest.raises(ValueError, match="expected a local path"):
        RegionFeatures("gs://bucket/out/tfrecord")


def test_the_library_imports_nothing_heavy_and_no_file_named_transforms(tmp_path: Path) -> None:
    (tmp_path / "transforms.py").write_text("raise ImportError('the user has a transforms.py')")
    write_shard(tmp_path / "a-00000-of-00001.tfrecord", [make_record("a_7")])
    names = ("apache_beam", "torch", "tensorflow", "detectron2", "lmdb", "cv2", "transforms", "beam_pipeline")
    code = f"""
import sys
from region_features import RegionFeatures, parse_example
print(RegionFeatures(".")["7"]["img_id"], [name for name in {names} if name in sys.modules])
import transforms
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "a_7 []"
    assert done.stderr.endswith("ImportError: the user has a transforms.py\n")
