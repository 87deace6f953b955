"""`--overwrite` refuses first and deletes after, and then everything that an earlier run wrote, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipeline.pipeline import main
from tests.conftest import TINY_WEIGHTS, tree_bytes
from tests.samples.fakes import FakeHandler, fake_prepare


@pytest.fixture
def out(corpus: Path, tmp_path: Path) -> Path:
    """An output with every export, and a file of somebody else's."""
    flags = ["--corpus", corpus, "--weights", TINY_WEIGHTS, "--output", tmp_path / "out"]
    outputs = ["--outputs", "tfrecord,captions,lmdb,tsv,negatives"]
    assert main([str(flag) for flag in [*flags, *outputs]], FakeHandler(), fake_prepare) == 0
    (tmp_path / "out" / "notes.txt").write_text("mine")
    return tmp_path / "out"


@pytest.mark.parametrize(
    "refused",
    [
        ["--device", "cuda"],
        ["--precision", "tf32"],
        ["--weights", "missing.caffemodel"],
        ["--images", "missing/*.jpg"],
        ["--runner", "NoSuchRunner"],
    ],
)
def test_a_refused_run_deletes_nothing(
    refused: list[str], out: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    before = tree_bytes(out)
    source = [] if "--images" in refused else ["--corpus", str(corpus)]
    flags = [*source, "--weights", str(TINY_WEIGHTS), "--output", str(out), "--overwrite", *refused]
    assert main(flags) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert tree_bytes(out) == before


def test_everything_of_an_earlier_run_goes_and_nothing_else(out: Path, corpus: Path) -> None:
    features = out / "resnet101_faster_rcnn_genome_imgfeats"
    (features / "mine.tsv").write_text("mine")
    photos = corpus / "images" / "test2015"
    flags = ["--images", photos, "--weights", TINY_WEIGHTS, "--output", out, "--outputs", "tfrecord", "--overwrite"]
    assert main([str(flag) for flag in flags], FakeHandler(), fake_prepare) == 0
    left = set(tree_bytes(out))
    assert {name for name in left if not name.startswith("tfrecord/")} == {
        "failures.jsonl",
        "manifest.json",
        "manifest.json.sha256",
        "notes.txt",
        "plan.jsonl",
        "resnet101_faster_rcnn_genome_imgfeats/mine.tsv",
    }
    assert all("test2015-" in name for name in left if name.startswith("tfrecord/"))


@pytest.mark.parametrize(
    "place",
    [
        "manifest.json",
        "failures.jsonl",
        "plan.jsonl",
        "tfrecord/val2014-00000-of-00001.tfrecord",
        "annotations/train_ann.jsonl",
        "resnet101_faster_rcnn_genome_imgfeats/volta/trainval_feat.lmdb/data.mdb",
        "tsv6/trainval_resnet101_faster_rcnn_genome_36.tsv",
    ],
)
def test_a_folder_in_the_place_of_a_file_is_refused_before_anything_is_deleted(
    place: str, out: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / place).unlink(missing_ok=True)
    (out / place).mkdir(parents=True)
    (out / place / "mine.txt").write_text("mine")
    before = tree_bytes(out)
    flags = ["--corpus", str(corpus), "--weights", str(TINY_WEIGHTS), "--output", str(out), "--outputs"]
    for argv in ([*flags, "tfrecord,captions,lmdb,tsv6", "--overwrite"], [*flags, "tfrecord,lmdb,tsv6"]):
        assert main(argv, FakeHandler(), fake_prepare) == 2
        assert f"expected a file or nothing at {out / place}, found a folder; move it" in capsys.readouterr().err
        assert tree_bytes(out) == before


def test_a_file_in_the_place_of_a_folder_is_refused_before_anything_is_deleted(
    out: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "tsv6").write_text("mine")
    before = tree_bytes(out)
    flags = ["--corpus", str(corpus), "--weights", str(TINY_WEIGHTS), "--output", str(out), "--overwrite"]
    assert main([*flags, "--outputs", "tfrecord,tsv6"], FakeHandler(), fake_prepare) == 2
    assert f"expected a folder or nothing at {out / 'tsv6'}, found a file; move it" in capsys.readouterr().err
    assert tree_bytes(out) == before
