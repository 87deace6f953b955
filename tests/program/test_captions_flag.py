"""A captions file is judged as a whole before any work starts."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.flags.options import parse_args
from beam_pipeline.preflight.job import check
from beam_pipeline.usage import UsageError
from beam_pipeline.verify.command import main as verify_main
from tests.conftest import TINY_WEIGHTS, karpathy_row, write_photo
from tests.samples.program import run


def captions_error(corpus: Path, tmp_path: Path, rows: list[Any], *flags: str) -> str:
    captions, out = tmp_path / "captions.json", tmp_path / "out"
    captions.write_text(json.dumps({"images": rows}))
    images = ["--images", str(corpus / "images" / "val2014"), "--captions", str(captions)]
    with pytest.raises(UsageError) as raised:
        check(parse_args([*images, "--weights", str(TINY_WEIGHTS), "--output", str(out), *flags])[0])
    assert not out.exists()
    return str(raised.value)


def test_captions_without_a_usable_row_are_refused_before_the_work(corpus: Path, tmp_path: Path) -> None:
    unsplit = {key: value for key, value in karpathy_row("val2014", "1.jpg", 1, "train").items() if key != "split"}
    message = captions_error(corpus, tmp_path, [unsplit, unsplit], "--caption_threshold", "1")
    assert "none of 2 is usable" in message and "images[0]: missing field 'split'" in message
    assert "none of 0 is usable" in captions_error(corpus, tmp_path, [])


def test_captions_of_other_images_are_refused_before_the_work(corpus: Path, tmp_path: Path) -> None:
    rows = [karpathy_row("val2014", f"{number}.jpg", number, "train") for number in (7, 8)]
    message = captions_error(corpus, tmp_path, rows)
    assert "none of its 2 rows has the name of one of the 5 images: " in message
    assert "an image is 'COCO_val2014_000000000100', a row of the captions '7', for example" in message


def test_captions_that_few_images_have_are_noted(corpus: Path, tmp_path: Path) -> None:
    rows = [karpathy_row("val2014", f"COCO_val2014_{number:012d}.jpg", number, "val") for number in (100, 7, 8)]
    (tmp_path / "captions.json").write_text(json.dumps({"images": rows}))
    flags = ["--images", str(corpus / "images" / "val2014"), "--captions", str(tmp_path / "captions.json")]
    job = check(parse_args([*flags, "--weights", str(TINY_WEIGHTS), "--output", str(tmp_path / "out")])[0])
    (note,) = job.notes
    assert "captions.json has captions of 1 of 5 images, in 3 rows; without a partner, an image is " in note
    assert "'COCO_val2014_000000000101', a row of the captions 'COCO_val2014_000000000007', for example" in note


def test_captions_of_under_half_of_the_images_are_noted_where_each_row_has_an_image(
    corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "lines.jsonl").write_text('{"img_id": "COCO_val2014_000000000100", "sentences": ["a dog"]}\n')
    flags = ["--images", str(corpus / "images" / "val2014"), "--captions", str(tmp_path / "lines.jsonl")]
    job = check(parse_args([*flags, "--weights", str(TINY_WEIGHTS), "--output", str(tmp_path / "out")])[0])
    (note,) = job.notes
    assert note.endswith("1 rows; without a partner, an image is 'COCO_val2014_000000000101', for example")


def test_a_corpus_of_images_that_have_no_captions_is_allowed(corpus: Path, tmp_path: Path) -> None:
    for name in ("train2014", "val2014"):
        shutil.rmtree(corpus / "images" / name)
    flags = ["--corpus", str(corpus), "--weights", str(TINY_WEIGHTS), "--output", str(tmp_path / "out")]
    (note,) = check(parse_args(flags)[0]).notes
    assert "has captions of 0 of 3 images" in note


FLICKR = (
    {"filename": "10002456.jpg", "split": "train", "sentences": [{"raw": "Two men.", "sentid": 3}]},
    {"filename": "36979.jpg", "split": "val", "sentences": [{"raw": "A café.", "sentid": 5}]},
)


def test_flickr30k_becomes_the_lines_that_voltas_loader_reads(tmp_path: Path) -> None:
    for seed, row in enumerate(FLICKR):
        write_photo(tmp_path / "flickr30k_images" / str(row["filename"]), seed)
    captions, out = tmp_path / "dataset_flickr30k.json", tmp_path / "out"
    captions.write_text(json.dumps({"images": FLICKR, "dataset": "flickr30k"}))
    flags = ["--images", tmp_path / "flickr30k_images", "--captions", captions, "--output", out]
    assert run(*flags, "--outputs", "tfrecord,captions,negatives") == 0
    lines = {path.name: path.read_text().splitlines() for path in (out / "annotations").iterdir()}
    (train,), (valid,) = (map(json.loads, lines[name]) for name in ("train_ann.jsonl", "valid_ann.jsonl"))
    assert train == {"sentences": ["Two men."], "id": "10002456", "img_path": "10002456.jpg"}
    assert valid == {"sentences": ["A café."], "id": "36979", "img_path": "36979.jpg"}
    assert pickle.loads((out / "hard_negative.pkl").read_bytes())["train_image_list"] == ["10002456"]
    assert verify_main([str(out)]) == 0


def test_too_many_damaged_captions_are_refused_before_the_work(corpus: Path, tmp_path: Path) -> None:
    rows = [karpathy_row("val2014", f"{number}.jpg", number, "train") for number in range(1, 9)]
    message = captions_error(corpus, tmp_path, [*rows, None])
    assert "1 of 9 rows are damaged, more than --caption_threshold 0.01 allows; " in message
    assert "images[8]: " in message
