"""The box modes file to file through the program, with real networks: the narrow one, and two of the model zoo."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from PIL import Image

from beam_pipeline.inspect import command as show
from beam_pipeline.pipeline import main
from region_features.formats.example import decode_example
from region_features.formats.tfrecord import read_records
from region_features.formats.volta import decode_volta
from region_features.records.region_record import RegionRecord
from tests.conftest import ROOT, TINY_WEIGHTS, karpathy_row, tree_bytes, write_photo
from tests.samples.detectron2_models import CONFIGS, FEATURE_WIDTHS, SMALL_CONFIG, random_state, read_config_file
from tests.samples.program import VOLTA, one_line
from tests.samples.records import assert_same

GOLDENS = ROOT / "tests" / "detector" / "goldens"


def run(*flags: object, weights: Path = TINY_WEIGHTS) -> int:
    torch.set_num_threads(2)
    return main([str(flag) for flag in (*flags, "--weights", weights, "--device", "cpu")])


def read_tfrecords(out: Path) -> dict[str, RegionRecord]:
    found = {}
    for path in sorted((out / "tfrecord").glob("*.tfrecord")):
        with path.open("rb") as stream:
            for data in read_records(stream, path.name):
                record = decode_example(data, path.name).record
                found[record.img_id] = record
    return found


def read_lmdb(path: Path) -> dict[str, RegionRecord]:
    env = lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False, max_readers=1)
    with env, env.begin() as txn:
        records = [decode_volta(bytes(value), path.name) for key, value in txn.cursor() if key != b"keys"]
    return {record.img_id: record for record in records}


def failures_of(out: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    return {row["img_id"]: f"{row['stage']}: {row['reason']}" for row in rows}


def write_boxes(path: Path, *rows: tuple[str, Any]) -> Path:
    path.write_text("".join(json.dumps({"img_id": img_id, "boxes": boxes}) + "\n" for img_id, boxes in rows))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images with many, some and few regions over the threshold, and one with 4 proposals in all."""
    folder = tmp_path / "photos"
    for number, size in enumerate([(240, 320), (60, 80), (200, 40)]):
        write_photo(folder / f"p_{number}.png", number, size)
    shutil.copy(GOLDENS / "s20x20.png", folder / "small_20.png")
    return folder


def test_the_adaptive_model_gives_each_image_its_own_number_of_boxes(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("--images", photos, "--output", out, "--min_boxes", 10, "--max_boxes", 100, "--num_shards", 2) == 0
    found, stored = read_tfrecords(out), read_lmdb(out / VOLTA / "photos_feat.lmdb")
    counts = {name: record.num_boxes for name, record in found.items()}
    assert counts["small_20"] == 4 and 36 < counts["p_0"] < 100
    assert 10 <= counts["p_1"] < 36 and 10 <= counts["p_2"] < 36
    assert list(stored) and set(stored) == set(found)
    for name, record in found.items():
        assert record.features.shape == (counts[name], found["p_0"].features.shape[1])
        assert record.boxes.shape == (counts[name], 4)
        assert_same(record, stored[name])


def test_a_low_threshold_keeps_max_boxes(photos: Path, tmp_path: Path) -> None:
    flags = ("--min_boxes", 10, "--max_boxes", 100, "--conf_threshold", 0.01)
    assert run("--images", photos / "p_0.png", "--output", tmp_path / "out", *flags) == 0
    (record,) = read_tfrecords(tmp_path / "out").values()
    assert record.num_boxes == 100


def test_36_boxes_are_the_default(photos: Path, tmp_path: Path) -> None:
    assert run("--images", photos, "--output", tmp_path / "out") == 0
    counts = {name: record.num_boxes for name, record in read_tfrecords(tmp_path / "out").items()}
    assert counts == {"p_0": 36, "p_1": 36, "p_2": 36, "small_20": 4}
    settings = json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]
    assert not {"boxes_sha256", "detector_config_sha256", "exif"} & set(settings)


def test_the_networks_own_boxes_given_back_are_the_same_records(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--images", photos, "--output", tmp_path / "own") == 0
    own = read_tfrecords(tmp_path / "own")
    given = write_boxes(tmp_path / "b.jsonl", *((name, record.boxes.tolist()) for name, record in own.items()))
    out = tmp_path / "given"
    flags = ("--images", photos, "--boxes", given, "--output", out, "--batch_size", 3)
    capsys.readouterr()
    assert run(*flags) == 0
    assert capsys.readouterr().err == ""
    found, stored = read_tfrecords(out), read_lmdb(out / VOLTA / "photos_feat.lmdb")
    assert set(found) == set(own) == set(stored)
    for name, record in found.items():
        assert_same(record, stored[name])
        for field in ("boxes", "objects_id", "attrs_id"):
            np.testing.assert_array_equal(getattr(record, field), getattr(own[name], field), err_msg=field)
        for field in ("features", "cls_prob", "attrs"):
            np.testing.assert_allclose(getattr(record, field), getattr(own[name], field), rtol=0, atol=1e-5)
    before = tree_bytes(out)
    assert run(*flags) == 0 and tree_bytes(out) == before
    write_boxes(given, ("p_0", [[0, 0, 5, 5]]))
    assert run(*flags) == 2
    assert "boxes_sha256 was " in capsys.readouterr().err


def test_images_without_usable_boxes_are_failures_and_counted(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = write_boxes(
        tmp_path / "b.jsonl",
        ("p_0", [[10.5, 20, 30, 40], [0, 0, 320, 240], [10.5, 20, 30, 40]]),
        ("p_1", [[0, 0, 10, 10], [0, 0, 81, 10]]),
        ("stranger", [[0, 0, 1, 1]]),
        ("small_20", [[1, 2, 1, 4]]),
    )
    given.write_text(given.read_text() + "torn {\n")
    captions = tmp_path / "c.json"
    captions.write_text(json.dumps({"images": [karpathy_row("photos", "p_0.png", 5, "val")]}))
    out = tmp_path / "out"
    flags = ("--images", photos, "--boxes", given, "--captions", captions, "--output", out)
    assert run(*flags, "--failure_threshold", 1) == 0
    captured = capsys.readouterr()
    assert f" note: 1 of 4 images have no boxes in {given} and will be failures\n" in captured.err
    assert "1 damaged rows of the boxes file" in captured.out
    (record,) = read_tfrecords(out).values()
    np.testing.assert_array_equal(record.boxes, np.array([[10.5, 20, 30, 40], [0, 0, 320, 240], [10.5, 20, 30, 40]]))
    assert json.loads((out / "annotations" / "valid_ann.jsonl").read_text())["id"] == 5
    failures = failures_of(out)
    assert failures.pop("").startswith(f"boxes: {given}, line 5: expected a JSON object, got b'torn {{'")
    assert failures == {
        "p_1": "boxes: box 1: [0.0, 0.0, 81.0, 10.0] lies outside the image of 80 x 60 pixels; clip it",
        "p_2": "boxes: no boxes given",
        "small_20": "boxes: box 0: expected x1 < x2 and y1 < y2, got [1, 2, 1, 4], which is empty",
    }
    assert json.loads((out / "manifest.json").read_text())["boxes"] == {
        "file": str(given),
        "rows": 4,
        "failed_rows": 1,
        "images_without_boxes": {"count": 1, "img_ids": ["p_2"]},
        "boxes_without_images": {"count": 1, "img_ids": ["stranger"]},
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "--boxes {}: expected a readable file"), (b"", "got an empty file"), (b"[1]\n", "{}, line 1: expected a")],
)
def test_an_unreadable_boxes_file_is_wrong_use(
    content: bytes | None, words: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tmp_path / "b.jsonl"
    if content is not None:
        given.write_bytes(content)
    assert run("--images", photos, "--boxes", given, "--output", tmp_path / "out") == 2
    assert words.format(given) in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_a_number_of_boxes_with_given_boxes_is_one_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = write_boxes(tmp_path / "b.jsonl", ("p_0", [[0, 0, 5, 5]]))
    assert run("--images", photos, "--boxes", given, "--output", tmp_path / "out", "--min_boxes", 10) == 2
    assert "expected no --min_boxes" in one_line(capsys)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_exif_turns_images_and_their_boxes(orientation: int, tmp_path: Path) -> None:
    write_photo(tmp_path / "plain" / "a.png", 5, (60, 80))
    tags = Image.Exif()
    tags[0x0112] = orientation
    undo = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE}
    (tmp_path / "tagged").mkdir()
    with Image.open(tmp_path / "plain" / "a.png") as image:
        method = undo[orientation]
        stored = image if method is None else image.transpose(method)
        stored.save(tmp_path / "tagged" / "a.png", exif=tags)
    given = write_boxes(tmp_path / "b.jsonl", ("a", [[0, 0, 80, 60], [70, 10, 79, 20]]))
    for name in ("plain", "tagged"):
        assert run("--images", tmp_path / name, "--boxes", given, "--output", tmp_path / f"{name}_out", "--exif") == 0
    (plain,) = read_tfrecords(tmp_path / "plain_out").values()
    (tagged,) = read_tfrecords(tmp_path / "tagged_out").values()
    assert (tagged.img_h, tagged.img_w) == (60, 80)
    assert_same(plain, tagged)
    assert json.loads((tmp_path / "tagged_out" / "manifest.json").read_text())["settings"]["exif"] is True
    # As stored, an image on its side is lower than the boxes are wide.
    status = run("--images", tmp_path / "tagged", "--boxes", given, "--output", tmp_path / "stored_out")
    assert status == (1 if orientation > 4 else 0)


@pytest.fixture(scope="module", params=list(CONFIGS))
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """A config of the model zoo made small, and random weights for it."""
    folder = tmp_path_factory.mktemp(request.param)
    config, weights = folder / "config.yaml", folder / "model.pth"
    config.write_text(SMALL_CONFIG.format(base=CONFIGS[request.param]))
    torch.save({"model": random_state(read_config_file(config))}, weights)
    return request.param, config, weights


def test_a_detectron2_network_fills_records_of_the_same_form(
    network: tuple[str, Path, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, config, weights = network
    out, flags = tmp_path / "out", ("--images", photos, "--detector_config", config)
    few = ("--min_boxes", 5, "--max_boxes", 12, "--conf_threshold", 0.05)
    assert run(*flags, *few, "--output", out, weights=weights) == 0
    error = capsys.readouterr().err
    assert f" note: {weights} has no attribute head: attrs, attrs_id and attrs_conf are zeros\n" in error
    found, stored = read_tfrecords(out), read_lmdb(out / VOLTA / "photos_feat.lmdb")
    assert set(found) == {"p_0", "p_1", "p_2", "small_20"} == set(stored)
    for name, record in found.items():
        assert 1 <= record.num_boxes <= 12 and record.features.shape[1] == FEATURE_WIDTHS[kind]
        assert record.cls_prob.shape[1] == 81 and record.attrs.shape[1] == 401 and not record.attrs.any()
        assert_same(record, stored[name])
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["weights"] == {"format": "detectron2-checkpoint", "attributes": False}
    assert manifest["detector_config"]["file"] == str(config)
    assert manifest["detector_config"]["values"]["INPUT"]["MIN_SIZE_TEST"] == 96
    names = manifest["detector_config"]["object_names"]
    assert names[0] == "person" and len(names) == 80
    assert show.main([str(out), "p_0"]) == 0
    first = found["p_0"]
    named = f"  {names[first.objects_id[0]]} {first.objects_conf[0]:.2f}"
    assert capsys.readouterr().out.splitlines()[-first.num_boxes].endswith(named)
    given = write_boxes(tmp_path / "b.jsonl", *((name, record.boxes.tolist()) for name, record in found.items()))
    assert run(*flags, "--boxes", given, "--output", tmp_path / "given", weights=weights) == 0
    for name, record in read_tfrecords(tmp_path / "given").items():
        np.testing.assert_array_equal(record.boxes, found[name].boxes)
        np.testing.assert_allclose(record.features, found[name].features, rtol=1e-5, atol=1e-5)
    config_text = config.read_text()
    try:
        config.write_text(config_text.replace("MIN_SIZE_TEST: 96", "MIN_SIZE_TEST: 97"))
        assert run(*flags, *few, "--output", out, weights=weights) == 2
    finally:
        config.write_text(config_text)
    assert "detector_config_sha256 was " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("COCO-Detection/retinanet_R_50_FPN_1x.yaml", "got 'RetinaNet'"),
        ("COCO-Detection/rpn_R_50_C4_1x.yaml", "got 'ProposalNetwork'"),
        ("nowhere.yaml", "nowhere.yaml: expected a detectron2 config"),
        (CONFIGS["fpn"], "expected a detectron2 checkpoint"),
        ("MODEL: {NO_SUCH: 1}", "NO_SUCH"),
        ("INPUT: {FORMAT: L}", "INPUT.FORMAT: expected BGR or RGB"),
        ("MODEL: !!python/object/apply:os.getcwd []", "refused"),
    ],
)
def test_a_wrong_config_is_one_line_and_status_2(
    config: str, words: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = TINY_WEIGHTS
    if ":" in config:
        (tmp_path / "config.yaml").write_text(config)
        config, weights = str(tmp_path / "config.yaml"), tmp_path / "w.pth"
        torch.save({"a": torch.zeros(1)}, weights)
    flags: Sequence[object] = ("--images", photos, "--detector_config", config, "--output", tmp_path / "out")
    assert run(*flags, weights=weights) == 2
    assert words in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_weights_of_another_network_are_wrong_use(
    network: tuple[str, Path, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, _, weights = network
    other = CONFIGS["c4" if kind == "fpn" else "fpn"]
    flags = ("--images", photos, "--detector_config", other, "--output", tmp_path / "out")
    assert run(*flags, weights=weights) == 2
    assert "are config and weights of one network?" in one_line(capsys)
