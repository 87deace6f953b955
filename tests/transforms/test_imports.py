"""TSV files and LMDBs of other programs in place of images: good rows become records, bad ones are named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from beam_pipeline.pipeline import main
from region_features import RegionFeatures
from region_features.formats.tsv import encode_tsv_row
from region_features.records.failure import ImageFailure
from region_features.records.item import CaptionedImage
from tests.samples.imports import list_files
from tests.samples.lmdbs import write_lmdb
from tests.samples.plans import assign_shards
from tests.samples.records import assert_same, make_record
from transforms.imports import read_imported_record, read_imported_shard

TRAIN, VAL = "COCO_train2014_000000000009", "COCO_val2014_000000000042"


def row(img_id: str, columns: int = 13) -> bytes:
    return encode_tsv_row(make_record(img_id), columns)


def torn(img_id: str) -> bytes:
    cells = row(img_id).split(b"\t")
    cells[9] = cells[9][:40]
    return b"\t".join(cells)


def test_torn_rows_are_failures_and_repeated_ones_are_noted(tmp_path: Path) -> None:
    first, second = tmp_path / "groups" / "train.tsv.0", tmp_path / "groups" / "train.tsv.1"
    first.parent.mkdir()
    first.write_bytes(row(TRAIN) + row("x_1", 10).replace(b"\n", b"\r\n") + row("x_2")[:60])
    second.write_bytes(row(TRAIN) + b"\tno id" + b"\t" * 8 + b"\n" + row(VAL) + row("x_1", 10))
    listing, refs = list_files(tmp_path / "groups" / "train.tsv.*")
    assert [(ref.set_name, ref.img_id) for ref in refs] == [("groups", "x_1"), ("train2014", TRAIN), ("val2014", VAL)]
    assert [failure.reason.split(":")[0] for failure in listing.failures] == [
        f"{first}, line 3",
        f"{second}, line 2, field img_id",
    ]
    (note,) = listing.notes
    assert note.startswith(f"2 records repeat an image and are left out, {second}#line=1&")
    x_1, train, val = (read_imported_record(ref, {}) for ref in refs)
    assert_same(train, make_record(TRAIN))
    assert_same(val, make_record(VAL))
    assert x_1.features.tobytes() == make_record("x_1").features.tobytes() and x_1.cls_prob.shape[1] == 0


def test_a_torn_row_is_replaced_by_a_later_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(torn("x_1") + torn("x_2") + row("x_1") + row("x_1"))
    listing, refs = list_files(path)
    by_id = {ref.img_id: ref for ref in refs}
    assert_same(read_imported_record(by_id["x_1"], {}), make_record("x_1"))
    assert [failure.img_id for failure in listing.failures] == ["x_1"]
    with pytest.raises(ImageFailure, match="line 2, image x_2, field features"):
        read_imported_record(by_id["x_2"], {})
    (note,) = listing.notes
    assert note.startswith(f"1 records repeat an image and are left out, {path}#line=4&")


def test_patterns_without_a_readable_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--import .*\.tsv: expected files of features, found none; check the path"):
        list_files(tmp_path / "*.tsv")
    with pytest.raises(ValueError, match="a: expected files of features, found none of a known format; known"):
        (tmp_path / "a").mkdir()
        list_files(tmp_path / "a")


def test_a_shard_is_read_in_key_order_with_failures_in_their_places(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(row("x_10") + torn("x_9") + row("x_2"))
    ((shard, refs),) = assign_shards(tuple(list_files(path)[1]), 1).items()
    loaded = list(read_imported_shard(shard, [CaptionedImage(ref, None) for ref in reversed(refs)], {}))
    assert [item.image.ref.img_id for item, _ in loaded] == ["x_10", "x_2", "x_9"]
    assert [type(result).__name__ for _, result in loaded] == ["RegionRecord", "RegionRecord", "ImageFailure"]


def test_imported_tsvs_and_lmdbs_are_exported_with_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups, out, again = tmp_path / "groups", tmp_path / "out", tmp_path / "again"
    groups.mkdir()
    ids = [f"COCO_train2014_{number:012d}" for number in (7, 11, 30)]
    (groups / "train.0").write_bytes(row(ids[0]) + row(ids[2]))
    (groups / "train.1").write_bytes(row(ids[1]) + row(ids[2]) + row(VAL) + b"torn\t1\n")
    outputs = "tfrecord,lmdb,tsv"
    flags = ["--import_tsv", str(groups / "train.*"), "--output", str(out), "--outputs", outputs]
    assert main(flags) == 1
    assert "1 of 5 images failed, more than --failure_threshold 0.01 allows" in capsys.readouterr().err
    assert main([*flags, "--failure_threshold", "0.2"]) == 0
    captured = capsys.readouterr()
    assert "1 records repeat an image" in captured.err and "1 damaged rows of imported files" in captured.out
    features = out / "resnet101_faster_rcnn_genome_imgfeats"
    assert (features / "train_obj36-36.tsv").read_bytes() == row(ids[1]) + row(ids[2]) + row(ids[0])
    assert (features / "valid_obj36-36.tsv").read_bytes() == row(VAL)
    (failure,) = [json.loads(line) for line in (out / "failures.jsonl").open()]
    assert failure["stage"] == "import" and "train.1, line 4" in failure["reason"]
    failures = (out / "failures.jsonl").read_bytes()
    rebuild = ["--output", str(out), "--outputs", "lmdb", "--failure_threshold", "0.2"]
    for form in ("safetensors", "volta"):
        assert main([*rebuild, "--lmdb_form", form]) == 0
        assert (out / "failures.jsonl").read_bytes() == failures

    old = str(features / "volta" / "trainval_feat.lmdb")
    assert main(["--import_lmdb", old, "--output", str(again), "--outputs", outputs]) == 0
    for name in ("train_obj36-36.tsv", "valid_obj36-36.tsv"):
        reexported = again / "resnet101_faster_rcnn_genome_imgfeats" / name
        assert reexported.read_bytes() == (features / name).read_bytes()
    assert main(["--import_lmdb", old, "--import_tsv", str(tmp_path / "x"), "--output", str(again)]) == 2
    assert "x: expected files of features, found none" in capsys.readouterr().err


def test_a_file_without_rows_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("# Title\n\nwords\n")
    assert main(["--import_tsv", str(tmp_path / "README.md"), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "README.md: expected files of features, found none of a known format" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_real_rows_come_back_bit_for_bit_from_tsv_and_lmdb(real_tsv: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ["--import_tsv", str(real_tsv), "--output", str(out), "--outputs", "tfrecord,lmdb,tsv"]
    assert main([*flags, "--tsv_columns", "10"]) == 0
    features = out / "resnet101_faster_rcnn_genome_imgfeats"
    expected, exported = (
        {line.split(b"\t")[0].decode(): line.split(b"\t") for line in path.read_bytes().splitlines()}
        for path in (real_tsv, features / "train_obj36-36.tsv")
    )
    assert expected and exported == expected
    with (
        lmdb.open(str(features / "volta" / "trainval_feat.lmdb"), readonly=True, lock=False) as env,
        env.begin() as txn,
    ):
        keys = pickle.loads(txn.get(b"keys") or b"")
        assert len(keys) == len(expected)
        for key in keys:
            record = pickle.loads(txn.get(key) or b"")
            assert record["features"].encode() == expected[record["img_id"]][9]


def test_values_out_of_range_of_any_program_are_failures_of_their_images_alone(tmp_path: Path) -> None:
    record = make_record("x_1")
    good = {"feature_path": "x_1", "image_height": 480, "image_width": 640, "num_boxes": record.num_boxes}
    good |= {"features": record.features, "bbox": record.boxes, "objects": record.objects_id}
    spoiled: list[dict[str, Any]] = [
        {"features": np.full_like(record.features, np.nan)},
        {"bbox": np.full_like(record.boxes, np.inf)},
        {"bbox": record.boxes - 1e4},
        {"objects": record.objects_id - 100},
        {"image_height": 0},
        {"image_height": 2**31},
        {"image_height": 10**30},
        {"image_width": -1},
    ]
    values = {
        f"x_{number}".encode(): pickle.dumps({**good, **fields, "feature_path": f"x_{number}"})
        for number, fields in enumerate([{}, *spoiled], start=1)
    }
    write_lmdb(tmp_path / "old.lmdb", values)
    out = tmp_path / "out"
    flags = ["--import", str(tmp_path / "old.lmdb"), "--output", str(out), "--outputs", "tfrecord"]
    assert main([*flags, "--failure_threshold", "0.9"]) == 0
    failures = {row["img_id"]: row["reason"] for row in map(json.loads, (out / "failures.jsonl").open())}
    assert sorted(failures) == [f"x_{number}" for number in range(2, len(values) + 1)], failures
    assert len(RegionFeatures(str(out))) == 1
