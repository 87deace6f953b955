"""`--lmdb_form` file to file through main."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beam_pipeline.inspect.command import main as inspect_output
from beam_pipeline.pipeline import main
from tests.conftest import tree_bytes
from tests.samples.program import VOLTA, run


def test_another_lmdb_form_leaves_the_shards_alone(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("--corpus", corpus, "--output", out) == 0
    shards, volta = tree_bytes(out / "tfrecord"), tree_bytes(out / VOLTA)
    assert main(["--corpus", str(corpus), "--output", str(out), "--outputs", "lmdb", "--lmdb_form", "safetensors"]) == 0
    assert tree_bytes(out / "tfrecord") == shards
    row = json.loads((out / "manifest.json").read_text())["files"]["lmdb"]["trainval_feat.lmdb"]
    assert row["lmdb_form"] == "safetensors" and row["records"] == 12
    assert row["files"]["data.mdb"] == (out / VOLTA / "trainval_feat.lmdb" / "data.mdb").stat().st_size
    capsys.readouterr()
    assert inspect_output([str(out)]) == 0
    assert "12 records, safetensors, " in capsys.readouterr().out
    assert run("--corpus", corpus, "--output", out) == 0
    assert tree_bytes(out / "tfrecord") == shards and tree_bytes(out / VOLTA) == volta
    assert run("--corpus", corpus, "--output", out, "--lmdb_form", "pickle") == 2
    assert "safetensors, safetensors-float16, got 'pickle'" in capsys.readouterr().err
