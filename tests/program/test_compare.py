"""The command compare: every kind of file, what it prints, its exit status."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_pipeline.compare.command import main
from region_features.detector.preprocess import prepare
from region_features.formats.tsv import encode_tsv_row
from region_features.records.region_record import RegionRecord
from tests.conftest import TINY_WEIGHTS, write_photo
from tests.samples.detector_variants import detector, pictures, records, swapped
from tests.samples.exports import build
from tests.samples.lmdbs import lmdb_job
from tests.samples.program import run
from tests.samples.records import make_record, write_shard

IDS = [f"COCO_val2014_{number:012d}" for number in range(1, 9)]
RECORDS = [make_record(img_id, boxes=6) for img_id in IDS]


def write_tsv(path: Path, records: Iterable[RegionRecord], columns: int = 10) -> Path:
    path.write_bytes(b"".join(encode_tsv_row(record, columns) for record in records))
    return path


@pytest.fixture
def tsv(tmp_path: Path) -> Path:
    return write_tsv(tmp_path / "a.tsv", RECORDS)


def read_verdict(out: str) -> str:
    (line,) = (line for line in out.splitlines() if line.startswith("verdict: "))
    return line.removeprefix("verdict: ")


def test_shards_an_lmdb_and_tsvs_of_the_same_records_are_the_same(
    tmp_path: Path, tsv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = [write_shard(tmp_path / f"v-{n}.tfrecord", RECORDS[4 * n : 4 * n + 4]) for n in range(2)]
    job = lmdb_job(tmp_path / "out", {"val2014": tuple(shards)})
    build(job)
    write_tsv(tmp_path / "b.tsv.0", RECORDS[:3], 13)
    write_tsv(tmp_path / "b.tsv.1", RECORDS[3:], 13)
    for other in (tmp_path, tmp_path / "v-*.tfrecord", job.folder, tmp_path / "b.tsv.*"):
        assert main([str(tsv), str(other)]) == 0, other
        out = capsys.readouterr().out
        assert read_verdict(out) == "same network"
        assert "compared: 8 of the 8 images that both have" in out


def test_an_output_folder_is_compared_by_its_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        write_photo(tmp_path / "photos" / f"{number}.png", number)
    for name in ("one", "two"):
        assert run("--images", tmp_path / "photos", "--output", tmp_path / name) == 0
    capsys.readouterr()
    assert main([str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    assert f"A: {tmp_path / 'one'} (tfrecord)\n   3 images, 3 boxes an image" in capsys.readouterr().out


def test_images_in_one_only_are_counted_and_named(
    tmp_path: Path, tsv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_tsv(tmp_path / "b.tsv", [*RECORDS[3:], make_record("other")])
    assert main([str(tsv), str(other)]) == 0
    out = capsys.readouterr().out
    assert "only here: 3 images, LMDB keys 1, 2, 3" in out
    assert "only here: 1 image, LMDB keys other" in out
    assert "compared: 5 of the 5 images that both have" in out


def test_another_network_gives_status_1_and_the_numbers(
    tmp_path: Path, tsv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = [replace(record, features=np.roll(record.features, 5, axis=1)) for record in RECORDS]
    other = write_tsv(tmp_path / "b.tsv", turned)
    assert main([str(tsv), str(other), "--json", str(tmp_path / "numbers.json")]) == 1
    assert read_verdict(capsys.readouterr().out) == "other network"
    found = json.loads((tmp_path / "numbers.json").read_text())
    assert found["verdict"]["causes"] == ["other network"]
    assert found["measures"]["images_with_same_boxes_in_same_order"] == 1.0
    assert found["measures"]["near_boxes_shift_pixels"] is None
    assert found["A"]["feature_widths"] == [16]


def test_json_goes_to_the_output_in_place_of_the_table(tsv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tsv), str(tsv), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["text"] == "same network"


@pytest.mark.parametrize(("sample", "compared"), [(3, 3), (100, 8), (0, 8)])
def test_a_sample_is_spread_over_the_images(
    tsv: Path, sample: int, compared: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tsv), str(tsv), "--sample", str(sample)]) == 0
    assert f"compared: {compared} of the 8 images that both have" in capsys.readouterr().out


def test_a_damaged_row_is_said_and_the_others_compared(
    tmp_path: Path, tsv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tsv.read_bytes().splitlines(keepends=True)
    other = tmp_path / "b.tsv"
    cells = lines[2].split(b"\t")
    other.write_bytes(
        b"".join([*lines[:2], b"\t".join([*cells[:8], b"AAAA", *cells[9:]]), b"torn\t1\t", b"\n", *lines[4:]])
    )
    assert main([str(tsv), str(other)]) == 0
    out = capsys.readouterr().out
    assert "unreadable: 1, the first: " in out and "b.tsv, line 3" in out
    assert "left out: 1 that share a key with another image, or are damaged" in out


def test_a_record_of_nan_is_said_and_the_others_compared(
    tmp_path: Path, tsv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = replace(RECORDS[1], features=RECORDS[1].features * np.float32(np.nan))
    other = write_tsv(tmp_path / "b.tsv", [RECORDS[0], damaged, *RECORDS[2:]])
    assert main([str(tsv), str(other)]) == 0
    assert f"unreadable: 1, the first: image {IDS[1]}: expected finite features" in capsys.readouterr().out


def test_images_of_other_size_are_counted(tmp_path: Path, tsv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turned = [replace(record, img_h=record.img_w, img_w=record.img_h) for record in RECORDS]
    main([str(tsv), str(write_tsv(tmp_path / "b.tsv", turned))])
    assert "of other size in A and B: 8 images; turned?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere"], "expected B, got nothing"),
        (["{tsv}", "nowhere"], "nowhere: expected files of features, found none"),
        (["{tsv}", "gs://bucket/out"], "gs://bucket/out: expected a local path"),
        (["{tsv}", "{other}"], "expected images that both have, found none; their LMDB keys are '1' and 'b'"),
        (["{tsv}", "{tsv}", "--sample", "-1"], "--sample -1: expected a number from 0"),
        (["{tsv}", "{tsv}", "--images", "photos"], "--images and --weights: expected both or none"),
        (
            ["{tsv}", "{tsv}", "--images", "{other}", "--weights", "w"],
            "expected images that A and B have, found others only",
        ),
        (["{tsv}", "{torn}"], "no image could be read; the first: "),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    tmp_path: Path, tsv: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_tsv(tmp_path / "b.tsv", [make_record("b")])
    torn = tmp_path / "torn.tsv"
    torn.write_bytes(b"\t".join([IDS[0].encode(), b"480", b"640", *[b"x"] * 7]) + b"\n")
    assert main([flag.format(tsv=tsv, other=other, torn=torn) for flag in flags]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("compare: ") and message in captured.err


def test_pictures_and_weights_say_how_each_side_was_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = dict(list(pictures().items())[:2])
    network = detector()
    for name, prepare_one in (("a", prepare), ("b", swapped)):
        write_tsv(tmp_path / f"{name}.tsv", records(network, images, prepare_one).values())
    for name, image in images.items():
        Image.fromarray(image[:, :, ::-1]).save(tmp_path / f"{name}.png")
    sides = [str(tmp_path / "a.tsv"), str(tmp_path / "b.tsv")]
    assert main([*sides, "--images", str(tmp_path / "*.png"), "--weights", str(TINY_WEIGHTS)]) == 1
    out = capsys.readouterr().out
    assert read_verdict(out) == "RGB and BGR swapped"
    assert "tried on 2 images: A was prepared as BGR, means 102.98, 115.947, 122.772, resized to 600/1000" in out
    assert "B was prepared as RGB, means 102.98, 115.947, 122.772, resized to 600/1000" in out
