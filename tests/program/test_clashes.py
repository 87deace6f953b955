"""Outputs that would overwrite each other, and names that a format cannot hold, are refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipeline.pipeline import main
from tests.conftest import TINY_WEIGHTS, write_photo
from tests.samples.fakes import FakeHandler, fake_prepare

FEATURES = "resnet101_faster_rcnn_genome_imgfeats"


def run(tmp_path: Path, outputs: str, *photos: str) -> int:
    for number, name in enumerate(photos):
        write_photo(tmp_path / name, number)
    folders = sorted({str((tmp_path / name).parent) for name in photos})
    flags = ["--images", *folders, "--weights", str(TINY_WEIGHTS), "--output", str(tmp_path / "out")]
    return main([*flags, "--outputs", outputs], FakeHandler(), fake_prepare)


@pytest.mark.parametrize(
    ("outputs", "sets", "message"),
    [
        (
            "tsv",
            ("train", "train2014"),
            f"tsv of train2014 and tsv of train would both be {FEATURES}/train_obj",
        ),
        ("tsv", ("val2014", "valid"), f"tsv of valid and tsv of val2014 would both be {FEATURES}/valid_obj"),
        (
            "lmdb",
            ("train2014", "trainval"),
            f"lmdb of trainval and lmdb of train2014 would both be {FEATURES}/volta/trainval_feat.lmdb/data.mdb",
        ),
    ],
)
def test_two_sets_of_one_output_name_are_refused_naming_both(
    outputs: str, sets: tuple[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [f"{name}/photo_{number}.png" for number, name in enumerate(sets)]
    assert run(tmp_path, f"tfrecord,{outputs}", *photos) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert run(tmp_path, "tfrecord", *photos) == 0


@pytest.mark.parametrize("sign", ["\t", "\n", "\r"])
def test_a_name_that_tears_a_tsv_is_refused(sign: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "tfrecord,tsv", f"photos/a{sign}b.png") == 2
    error = capsys.readouterr().err
    assert "the output tsv cannot hold a tab or a line break in its name" in error and error.count("\n") == 1
    assert run(tmp_path, "tfrecord,lmdb", f"photos/a{sign}b.png") == 0


def test_train_and_validation_images_of_coco_share_an_lmdb(tmp_path: Path) -> None:
    assert run(tmp_path, "tfrecord,lmdb,tsv", "train2014/a_1.png", "val2014/a_2.png") == 0
    assert (tmp_path / "out" / FEATURES / "volta" / "trainval_feat.lmdb" / "data.mdb").exists()
