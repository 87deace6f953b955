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
