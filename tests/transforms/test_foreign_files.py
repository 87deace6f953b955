"""Files as other programs write them, not as ours does: plain pickles, compressed npz, other orders and spellings."""

from __future__ import annotations

import base64
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from beam_pipeline.pipeline import main
from region_features.formats.tsv6 import encode_six_columns
from region_features.records.failure import ImageFailure
from region_features.records.region_record import RegionRecord
from tests.conftest import karpathy_row
from tests.samples.imports import import_all
from tests.samples.records import make_record

IDS = [f"COCO_val2014_{number:012d}" for number in (7, 42)]
RECORDS = {img_id: make_record(img_id, 36) for img_id in IDS}
NUMBERS = {str(int(img_id[-12:])): record for img_id, record in RECORDS.items()}


def write_lmdb(folder: Path, values: dict[bytes, bytes]) -> Path:
    with lmdb.open(str(folder), map_size=1 << 24) as env, env.begin(write=True) as txn:
        for key, value in values.items():
            txn.put(key, value)
    return folder


def assert_shown(found: RegionRecord, record: RegionRecord) -> None:
    """Assert that size, boxes and features are those of a record."""
    assert (found.img_h, found.img_w) == (record.img_h, record.img_w)
    assert found.boxes.tobytes() == record.boxes.tobytes()
    assert found.features.tobytes() == record.features.tobytes()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_mmfs_own_lmdb_of_plain_pickles(protocol: int, tmp_path: Path) -> None:
    values = {}
    for img_id, record in RECORDS.items():
        fields = {
            "features": record.features,
            "image_height": np.int64(record.img_h),
            "image_width": record.img_w,
            "num_boxes": np.int32(record.num_boxes),
            "objects": record.objects_id,
            "cls_prob": record.cls_prob,
            "bbox": record.boxes,
            "feature_path": f"val2014/{img_id}",
        }
        values[f"val2014/{img_id}".encode()] = pickle.dumps(fields, protocol)
    values[b"keys"] = pickle.dumps(list(values))
    found = import_all(write_lmdb(tmp_path / "detectron.lmdb", values))
    for img_id, record in RECORDS.items():
        assert_shown(found[img_id], record)
        assert found[img_id].objects_id.tolist() == record.objects_id.tolist()
        assert found[img_id].cls_prob.tobytes() == record.cls_prob.tobytes() and found[img_id].lacks("attrs")


@pytest.mark.parametrize("as_text", [False, True])
def test_vilberts_lmdb_with_arrays_or_base64(as_text: bool, tmp_path: Path) -> None:
    def stored(array: np.ndarray) -> Any:
        return base64.b64encode(array.tobytes()) if as_text else array

    values = {
        key.encode(): pickle.dumps(
            {
                "image_id": key,
                "image_h": str(record.img_h),
                "image_w": str(record.img_w),
                "num_boxes": str(record.num_boxes),
                "boxes": stored(record.boxes),
                "features": stored(record.features),
            }
        )
        for key, record in NUMBERS.items()
    }
    found = import_all(write_lmdb(tmp_path / "x.lmdb", values))
    assert found.keys() == NUMBERS.keys()
    for key, record in NUMBERS.items():
        assert_shown(found[key], record)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("executed",)


def test_a_hostile_value_is_a_failure_of_its_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {b"7": pickle.dumps({"feature_path": "COCO_val2014_000000000007", "features": Evil()})}
    with pytest.raises(ImageFailure, match=r"asks for builtins\.print, which is refused"):
        import_all(write_lmdb(tmp_path / "x.lmdb", values))
    assert "executed" not in capsys.readouterr().out


def test_uniters_lmdb_of_compressed_npz(tmp_path: Path) -> None:
    values = {}
    for img_id, record in RECORDS.items():
        sides = np.array([record.img_w, record.img_h] * 2, np.float32)
        places = np.concatenate([record.boxes / sides, np.zeros((36, 2), np.float32)], axis=1).astype("<f2")
        path = tmp_path / "one.npz"
        np.savez_compressed(
            path,
            norm_bb=places,
            features=record.features.astype("<f2"),
            conf=record.objects_conf.astype("<f2"),
            soft_labels=record.cls_prob.astype("<f2"),
        )
        values[f"coco_{img_id.removeprefix('COCO_')}.npz".encode()] = path.read_bytes()
    values[b"__keys__"] = json.dumps([key.decode() for key in values]).encode()
    folder = tmp_path / "val2014" / "feat_th0.2_max100_min10_compressed"
    folder.mkdir(parents=True)
    write_lmdb(folder, values)
    found = import_all(tmp_path / "val2014", sizes=dict.fromkeys(IDS, (480, 640)))
    for img_id, record in RECORDS.items():
        assert found[img_id].features.tobytes() == record.features.astype("<f2").astype("<f4").tobytes()
        np.testing.assert_allclose(found[img_id].boxes, record.boxes, atol=640 / 2048)


@pytest.mark.parametrize("turned", [False, True])
def test_openvqas_npz_turned_either_way_with_a_pickled_array_beside(turned: bool, tmp_path: Path) -> None:
    folder = tmp_path / "val2014"
    folder.mkdir()
    for img_id, record in RECORDS.items():
        np.savez_compressed(
            folder / f"{img_id}.jpg.npz",
            x=record.features.T if turned else record.features,
            bbox=record.boxes,
            num_bbox=36,
            image_h=record.img_h,
            image_w=record.img_w,
            info=np.array({"objects_id": record.objects_id}, object),
        )
    found = import_all(folder / "*.npz")
    assert found.keys() == RECORDS.keys()
    for img_id, record in RECORDS.items():
        assert_shown(found[img_id], record)


def test_adaptive_files_of_bottom_up_attention_vqa(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    records = {"7": make_record("7", 5), "42": make_record("42", 3)}
    sides = np.array([640, 480] * 2, np.float32)
    with h5py.File(tmp_path / "val.hdf5", "w") as file:
        boxes = np.concatenate([record.boxes for record in records.values()])
        file["image_features"] = np.concatenate([record.features for record in records.values()])
        file["image_bb"] = boxes
        file["spatial_features"] = np.concatenate([boxes / sides, np.zeros((8, 2), np.float32)], axis=1)
        file["pos_boxes"] = np.array([[0, 5], [5, 8]])
    (tmp_path / "val_imgid2idx.pkl").write_bytes(pickle.dumps({7: 0, 42: 1}, 2))
    found = import_all(tmp_path / "val.hdf5")
    for img_id, record in records.items():
        assert_shown(found[img_id], record)


def test_six_columns_in_groups_with_every_spelling_of_base64(tmp_path: Path) -> None:
    rows = [encode_six_columns(record) for record in RECORDS.values()]
    wrapped = rows[0].rstrip(b"\n").split(b"\t")
    wrapped[4:] = [f"b'{cell.decode()}'".encode() for cell in wrapped[4:]]
    (tmp_path / "karpathy_val.tsv.0").write_bytes(b"\t".join(wrapped) + b"\r\n")
    (tmp_path / "karpathy_val.tsv.1").write_bytes(rows[1].replace(b"=", b"") + rows[0])
    found = import_all(tmp_path / "karpathy_val.tsv.*")
    assert found.keys() == NUMBERS.keys()
    for key, record in NUMBERS.items():
        assert_shown(found[key], record)
        missing = ("objects_id", "objects_conf", "attrs_id", "attrs_conf", "cls_prob", "attrs")
        assert all(map(found[key].lacks, missing))


@pytest.fixture
def six_columns(tmp_path: Path) -> Path:
    path = tmp_path / "trainval_36.tsv"
    path.write_bytes(b"".join(map(encode_six_columns, RECORDS.values())))
    return path


def test_a_run_names_numbers_after_the_captions_and_says_what_is_missing(
    six_columns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captions, out = tmp_path / "dataset_coco.json", tmp_path / "out"
    rows = [karpathy_row("val2014", f"{img_id}.jpg", int(img_id[-12:]), "val") for img_id in IDS]
    captions.write_text(json.dumps({"images": rows}))
    flags = ["--import", str(six_columns), "--captions", str(captions), "--output", str(out)]
    assert main([*flags, "--outputs", "tfrecord,lmdb,mmf,tsv6"]) == 0
    missing = "objects_id, objects_conf, attrs_id, attrs_conf, cls_prob, attrs"
    assert f"note: imported records have no {missing}, {six_columns}#line=1&" in capsys.readouterr().err
    assert {path.name for path in (out / "tfrecord").glob("*.tfrecord")} == {"val2014-00000-of-00001.tfrecord"}
    found = import_all(out)
    assert found.keys() == RECORDS.keys()
    for img_id, record in RECORDS.items():
        assert_shown(found[img_id], record)
    assert (out / "tsv6" / "trainval_resnet101_faster_rcnn_genome_36.tsv").read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("output", ["m2", "uniter", "coco-json", "report"])
def test_outputs_that_need_what_is_missing_are_refused_before_the_work(
    output: str, six_columns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["--import", str(six_columns), "--output", str(out), "--outputs", f"tfrecord,{output}"]) == 2
    error = capsys.readouterr().err
    assert f"the output {output} needs it, and the file that this record was imported from has none" in error
    assert error.count("\n") == 1 and not out.exists()


def test_files_without_sizes_ask_for_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    h5py = pytest.importorskip("h5py")
    path, sizes, out = tmp_path / "coco_detections.hdf5", tmp_path / "instances.json", tmp_path / "out"
    with h5py.File(path, "w") as file:
        for key, record in NUMBERS.items():
            for name in ("features", "boxes", "cls_prob"):
                file[f"{key}_{name}"] = getattr(record, name)
    flags = ["--import", str(path), "--output", str(out), "--outputs", "tfrecord,m2"]
    assert main(flags) == 2
    assert "such files do not hold the sizes of their images; name a file of the sizes" in capsys.readouterr().err
    rows = [{"file_name": f"{IDS[0]}.jpg", "height": 480, "width": 640, "id": 7}]
    sizes.write_text(json.dumps({"info": {}, "images": rows, "annotations": [{"area": 1}], "categories": []}))
    assert main([*flags, "--image_sizes", str(sizes), "--failure_threshold", "0.5"]) == 0
    failure = json.loads((out / "failures.jsonl").read_text())
    assert failure["img_id"] == "42" and "expected the size of this image, found none" in failure["reason"]
    assert_shown(import_all(out)["7"], NUMBERS["7"])


def test_a_missing_package_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    path = tmp_path / "coco_detections.hdf5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    assert main(["--import", str(path), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "h5py not installed: expected the extra `formats`" in error and error.count("\n") == 1
