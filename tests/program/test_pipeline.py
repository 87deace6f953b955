"""The program file to file through main with a fake detector, compared with plain Python."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import lmdb
import numpy as np
import pytest

from beam_pipeline.pipeline import main
from region_features.formats.example import ImageExample, decode_example
from region_features.formats.tfrecord import read_records
from region_features.images.decode import decode_image
from tests.conftest import TINY_WEIGHTS, karpathy_row, tree_bytes, write_photo
from tests.samples.fakes import fake_prepare, fake_record
from tests.samples.program import VOLTA, run


def read_shard(path: Path) -> list[ImageExample]:
    with path.open("rb") as stream:
        return [decode_example(data, path.name) for data in read_records(stream, path.name)]


def read_lmdb(path: Path) -> dict[str, dict[str, str]]:
    """As VOLTA's feature reader does."""
    env = lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False, max_readers=1)
    with env, env.begin() as txn:
        keys = pickle.loads(txn.get(b"keys") or b"")
        return {key.decode(): pickle.loads(txn.get(key) or b"") for key in keys}


def test_a_corpus_becomes_shards_lmdbs_captions_and_a_manifest(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("--corpus", corpus, "--output", out, "--num_shards", 2, "--batch_size", 3) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "train2014: 7 of 7 images in 2 shards, 0 failed" in captured.out

    rows = {row["filename"]: row for row in json.loads((corpus / "dataset_coco.json").read_text())["images"]}
    found: dict[str, ImageExample] = {}
    for folder, total in (("train2014", 7), ("val2014", 5), ("test2015", 3)):
        examples = [e for i in (0, 1) for e in read_shard(out / "tfrecord" / f"{folder}-0000{i}-of-00002.tfrecord")]
        keys = [str(int(example.record.img_id.split("_")[-1])).encode() for example in examples]
        assert keys == sorted(keys) and len(set(keys)) == total
        found.update({example.filename: example for example in examples})
    assert len(found) == 15
    for name, example in found.items():
        path = next((corpus / "images").rglob(name))
        wanted = fake_record(fake_prepare(path.stem, decode_image(path.read_bytes(), 10**6)))
        np.testing.assert_array_equal(example.record.features, wanted.features)
        np.testing.assert_array_equal(example.record.boxes, wanted.boxes)
        row = rows.get(name)
        assert example.captions == (tuple(s["raw"] for s in row["sentences"]) if row else ())
        assert example.split == (row["split"] if row else "")

    trainval, test = read_lmdb(out / VOLTA / "trainval_feat.lmdb"), read_lmdb(out / VOLTA / "test_feat.lmdb")
    assert sorted(trainval, key=int) == [str(i) for i in (*range(9, 16), *range(100, 105))]
    assert list(test) == ["0", "1", "2"]
    assert trainval["9"]["img_id"] == "COCO_train2014_000000000009"

    annotations = {
        path.name: [json.loads(line) for line in path.open()] for path in (out / "annotations").glob("*.jsonl")
    }
    assert [row["id"] for row in annotations["train_ann.jsonl"]] == [*range(9, 16), 103, 102]
    assert [row["id"] for row in annotations["valid_ann.jsonl"]] == [101]
    assert [row["id"] for row in annotations["test_ann.jsonl"]] == [100, 777]
    assert [row["id"] for row in annotations["test1k_ann.jsonl"]] == [100, 777]
    assert annotations["valid_ann.jsonl"][0]["sentences"][0] == "Café 101 number 0. "

    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["status"] == "done"
    assert manifest["counts"] == {"in": 15, "written": 15, "failed": 0, "computed": 15, "reused": 0}
    assert manifest["captions"]["captions_without_images"]["img_ids"] == ["COCO_val2014_000000000777"]
    assert manifest["captions"]["images_without_captions"]["count"] == 4
    assert (out / "failures.jsonl").read_text() == ""


def test_rerun_changes_nothing_and_other_settings_are_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("--corpus", corpus, "--output", out) == 0
    before = tree_bytes(out)
    assert run("--corpus", corpus, "--output", out) == 0
    assert tree_bytes(out) == before
    capsys.readouterr()
    assert run("--corpus", corpus, "--output", out, "--min_boxes", 10) == 2
    assert "min_boxes was 36, now it is 10" in capsys.readouterr().err
    write_photo(corpus / "images" / "val2014" / "COCO_val2014_000000000200.jpg", 200)
    assert run("--corpus", corpus, "--output", out) == 2
    assert "the images changed: 1 new, 0 gone" in capsys.readouterr().err
    assert tree_bytes(out) == before
    assert run("--corpus", corpus, "--output", out, "--overwrite") == 0
    assert len(read_lmdb(out / VOLTA / "trainval_feat.lmdb")) == 13


def test_overwrite_keeps_files_that_are_not_the_programs(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("--corpus", corpus, "--output", out) == 0
    (out / "tfrecord" / "notes.txt").write_text("mine")
    assert run("--corpus", corpus, "--output", out, "--overwrite", "--num_shards", 1) == 0
    assert (out / "tfrecord" / "notes.txt").read_text() == "mine"
    assert len(list((out / "tfrecord").glob("*.tfrecord"))) == 3


def test_each_bad_image_is_one_line_of_the_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    for number in range(6):
        write_photo(photos / f"good_{number}.png", number)
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "text.jpg").write_text("not an image")
    (photos / "folder.jpg").mkdir()
    black = photos / "black.png"
    write_photo(black, 1)
    from PIL import Image

    Image.new("RGB", (8, 8)).save(black)
    listed = tmp_path / "list.txt"
    names = [*sorted(photos.glob("*.png")), *sorted(photos.glob("*.jpg"))]
    listed.write_text("\n".join([*map(str, names), str(photos / "missing.jpg"), str(names[0])]) + "\n")
    out = tmp_path / "out"
    assert run("--images", listed, "--output", out, "--failure_threshold", 0.9, "--batch_size", 4) == 0
    assert "1 URIs are listed more than once" in capsys.readouterr().err
    failures = {row["img_id"]: row for row in map(json.loads, (out / "failures.jsonl").open())}
    stages = {name: row["stage"] for name, row in failures.items()}
    assert stages == {"empty": "decode", "text": "decode", "folder": "read", "missing": "read", "black": "detect"}
    assert "directory" in failures["folder"]["reason"]
    assert failures["missing"]["reason"] == "No such file or directory"
    assert sorted(read_lmdb(out / VOLTA / "photos_feat.lmdb")) == [str(number) for number in range(6)]


def test_too_many_failures_end_with_status_1_and_can_be_retried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    for number in range(4):
        write_photo(photos / f"good_{number}.png", number)
    (photos / "good_4.png").write_text("broken")
    assert run("--images", photos, "--output", out) == 1
    assert "1 of 5 images failed" in capsys.readouterr().err
    assert not (out / VOLTA).exists()
    assert json.loads((out / "manifest.json").read_text())["status"] == "failed"
    shards = tree_bytes(out / "tfrecord")
    assert run("--images", photos, "--output", out) == 1
    assert tree_bytes(out / "tfrecord") == shards
    write_photo(photos / "good_4.png", 4)
    assert run("--images", photos, "--output", out, "--retry_failed") == 0
    assert len(read_lmdb(out / VOLTA / "photos_feat.lmdb")) == 5
    assert (out / "failures.jsonl").read_text() == ""


def test_two_images_with_one_lmdb_key_are_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    write_photo(photos / "a_7.png", 1)
    write_photo(photos / "b_007.png", 2)
    assert run("--images", photos, "--output", out) == 2
    error = capsys.readouterr().err
    assert "a_7.png" in error and "b_007.png" in error and len(error.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--images", "nowhere/*.jpg"], "expected images, found none"),
        (["--corpus", "nowhere"], "--corpus nowhere: expected a folder, found nothing; check the path"),
        (["--corpus", ".", "--captions", "c.json"], "expected at least one of the folders"),
        (["--images", "x.png", "--direct_running_mode=multi_threading"], "loses records in silence"),
        (["--images", "x.png", "--captions", "nowhere.json"], "nowhere.json: expected a readable file"),
        (["--images", "x.png", "--batchsize", "3"], "did you mean --batch_size?"),
        (["--images", "x.png", "--outputs", "tfrecords"], "did you mean tfrecord?"),
        (["--images", "x.png", "--runner=Nope"], "Unexpected pipeline runner"),
        (
            ["--images", "gs://b/x.png", "--output", "gs://b/out", "--runner=DataflowRunner"],
            "--sdk_container_image=IMAGE is missing: Dataflow's machines need the image",
        ),
        (["--images", "x.png", "--output", "x.png/out"], "expected a folder to write to"),
        ([], "expected --corpus DIR or --images"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "x.png", 1)
    (tmp_path / "c.json").write_text(json.dumps({"images": [karpathy_row("val2014", "x.jpg", 1, "val")]}))
    assert run("--output", "out", *flags) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


def test_wrong_weights_are_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photo(tmp_path / "x.png", 1)
    flags = ["--images", str(tmp_path / "x.png"), "--output", str(tmp_path / "out")]
    bad = tmp_path / "bad.caffemodel"
    bad.write_bytes(TINY_WEIGHTS.read_bytes()[:100_000])
    assert main([*flags, "--weights", str(bad)]) == 2
    assert main([*flags, "--weights", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert "bad.caffemodel" in error and "none" in error and len(error.splitlines()) == 2


def test_each_output_can_be_made_alone(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["--corpus", str(corpus), "--output", str(out), "--outputs", "captions"]) == 0
    assert sorted(tree_bytes(out)) == [
        *(f"annotations/{name}_ann.jsonl" for name in ("test1k", "test", "train", "valid")),
        "failures.jsonl",
        "manifest.json",
        "manifest.json.sha256",
    ]
    assert main(["--corpus", str(corpus), "--output", str(out), "--outputs", "lmdb"]) == 2
    assert "expected whole shards" in capsys.readouterr().err
    assert run("--corpus", corpus, "--output", out, "--outputs", "tfrecord") == 0
    assert not (out / VOLTA).exists()
    told = json.loads((out / "manifest.json").read_bytes())
    assert main(["--outputs", "lmdb", "--output", str(out)]) == 0
    assert len(read_lmdb(out / VOLTA / "trainval_feat.lmdb")) == 12
    # Where the shards come from is told by every later manifest, too.
    now = json.loads((out / "manifest.json").read_bytes())
    assert [now[name] for name in ("inputs", "settings", "weights")] == [
        told[name] for name in ("inputs", "settings", "weights")
    ]


def test_full_disk_is_one_line_and_keeps_what_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    for number in range(6):
        write_photo(photos / f"p_{number}.png", number)

    def full(example: ImageExample) -> bytes:
        if example.record.img_id in ("p_2", "p_3"):  # the second shard's
            raise OSError(28, "No space left on device")
        return b"record"

    with monkeypatch.context() as disk:
        disk.setattr("transforms.shards.encode_example", full)
        assert run("--images", photos, "--output", out, "--num_shards", 3) == 1
    error = capsys.readouterr().err
    assert "No space left on device" in error and len(error.splitlines()) == 1
    published = [path.name for path in (out / "tfrecord").iterdir()]
    assert len(published) == 2 and not [name for name in published if name.startswith(".tmp-")]


def test_tsvs_and_hard_negatives_are_made_of_the_shards(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    every = "tfrecord,captions,lmdb,tsv,negatives"
    flags = ["--corpus", corpus, "--output", out, "--outputs", every, "--negatives_pool", 4]
    assert run(*flags) == 0
    features = out / "resnet101_faster_rcnn_genome_imgfeats"
    names = ["test_obj36-36.tsv", "train_obj36-36.tsv", "valid_obj36-36.tsv"]
    assert sorted(path.name for path in features.glob("*.tsv")) == names
    rows = [line.split("\t") for line in (features / "train_obj36-36.tsv").read_text().splitlines()]
    assert [len(row) for row in rows] == [13] * 7
    lmdb_rows = read_lmdb(out / VOLTA / "trainval_feat.lmdb")
    assert {row[0]: row[9] for row in rows}.items() <= {r["img_id"]: r["features"] for r in lmdb_rows.values()}.items()
    negatives = pickle.loads((out / "hard_negative.pkl").read_bytes())
    assert negatives["train_image_list"] == [*range(9, 16), 103, 102]
    assert negatives["train_hard_pool"].shape == (9, 4)
    assert negatives["train_hard_pool"][:, 0].tolist() == list(range(9))
    manifest = json.loads((out / "manifest.json").read_text())
    assert sorted(manifest["files"]["tsv"]) == names
    assert sorted(manifest["files"]["negatives"]["hard_negative"]["files"]) == [
        "hard_negative.npz",
        "hard_negative.pkl",
    ]
    summary = capsys.readouterr().out
    assert "train_obj36-36.tsv: 7 rows" in summary and "hard_negative.npz: 9 images x 4" in summary

    before = tree_bytes(out)
    assert run(*flags) == 0
    assert tree_bytes(out) == before
    (features / "train_obj36-36.tsv").unlink()
    assert main(["--corpus", str(corpus), "--output", str(out), "--outputs", "tsv", "--tsv_columns", "10"]) == 0
    assert (features / "train_obj36-36.tsv").read_text().splitlines()[0].count("\t") == 9


def test_negatives_need_captions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photo(tmp_path / "photos" / "p_1.png", 1)
    assert run("--images", tmp_path / "photos", "--output", tmp_path / "out", "--outputs", "tfrecord,negatives") == 2
    assert "--outputs negatives: expected --captions FILE" in capsys.readouterr().err
