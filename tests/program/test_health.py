"""The line of health that ends a run, its warnings, and that a resumed run says the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_pipeline.inspect import command as show
from beam_pipeline.pipeline import main
from beam_pipeline.verify import command as verify
from tests.conftest import TINY_WEIGHTS, tree_bytes, write_photo
from tests.samples.fakes import FakeHandler, fake_prepare


def summary(capsys: pytest.CaptureFixture[str]) -> tuple[str, list[str]]:
    """Return the line of health and the warnings of the last run."""
    lines = capsys.readouterr().out.splitlines()
    (health,) = [line for line in lines if line.startswith("health of ")]
    return health, [line for line in lines if line.startswith("warning: ")]


def detect(photos: Path, out: Path, *flags: object) -> None:
    argv = ["--images", photos, "--weights", TINY_WEIGHTS, "--output", out, "--outputs", "tfrecord", *flags]
    assert main([str(word) for word in argv]) == 0


def test_random_weights_are_warned_of_and_a_resumed_run_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    for number in range(4):
        write_photo(photos / f"x_{number}.png", number, (120, 160))
    detect(photos, out, "--num_shards", 2)
    health, warnings = summary(capsys)
    assert health.startswith("health of 4 sampled images [the real network's]: median confidence 0.")
    assert "warning: features are 64 wide, the real network's 2048: are these its weights?" in warnings
    assert any("of the features' numbers are zero" in warning for warning in warnings)
    files = tree_bytes(out)
    assert json.loads(files["manifest.json"])["health"]["sampled_images"] == 4
    next((out / "tfrecord").glob("*00001-of-00002.tfrecord")).unlink()
    (out / "manifest.json").unlink()
    detect(photos, out, "--num_shards", 2)
    assert summary(capsys) == (health, warnings)
    assert tree_bytes(out) == files
    assert verify.main([str(out)]) == 0
    capsys.readouterr()
    assert show.main([str(out)]) == 0
    assert summary(capsys) == (health, warnings)


def test_blank_images_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.fromarray(np.full((120, 160, 3), 255, np.uint8)).save(tmp_path / "photos" / f"x_{number}.png")
    detect(tmp_path / "photos", tmp_path / "out")
    _, warnings = summary(capsys)
    assert any(
        warning.startswith("warning: 3 of 3 sampled images have their boxes at the same places") for warning in warnings
    )
    assert any("different objects in 36 boxes" in warning for warning in warnings)


def test_imported_rows_of_the_real_network_are_well(
    real_tsv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--import_tsv", str(real_tsv), "--output", str(tmp_path / "out"), "--outputs", "tfrecord"]
    assert main(argv) == 0
    health, warnings = summary(capsys)
    assert warnings == [] and health.startswith("health of 10 sampled images [the real network's]: ")
    assert "features 2048 wide [2048]" in health


def test_a_run_without_records_has_no_health(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "x_1.png").write_text("")
    argv = ["--images", tmp_path / "photos", "--weights", TINY_WEIGHTS, "--output", tmp_path / "out"]
    assert main([*map(str, argv), "--failure_threshold", "1"], FakeHandler(), fake_prepare) == 0
    assert "health" not in capsys.readouterr().out
    assert "health" not in json.loads((tmp_path / "out" / "manifest.json").read_text())
