"""--device and --precision: what this machine cannot run is said before any work, and precisions are never mixed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from beam_pipeline.pipeline import main
from tests.conftest import TINY_WEIGHTS, write_photo


def test_another_precision_is_another_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photo(tmp_path / "x.png", 1)
    flags = ["--images", str(tmp_path / "x.png"), "--weights", str(TINY_WEIGHTS), "--output", str(tmp_path / "out")]
    assert main([*flags, "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main([*flags, "--device", "cpu", "--precision", "bfloat16"]) == 2
    assert "precision was the default, now it is bfloat16" in capsys.readouterr().err
    assert main([*flags, "--device", "cpu"]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--device", "cuda"], "--device cuda: expected a GPU"),
        (["--precision", "tf32"], "--precision tf32: a CPU does float32 or bfloat16 only"),
        (["--device", "cpu", "--precision", "float16"], "--precision float16: a CPU does float32 or bfloat16 only"),
    ],
)
def test_what_this_machine_cannot_run_is_wrong_use(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    write_photo(tmp_path / "x.png", 1)
    images = ["--images", str(tmp_path / "x.png"), "--weights", str(TINY_WEIGHTS), "--output", str(tmp_path / "out")]
    assert main([*images, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_machine_without_the_networks_packages_says_so_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photo(tmp_path / "x.png", 1)
    find, missing = importlib.util.find_spec, ("torch", "detectron2")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: (name not in missing and find(name, *more)) or None
    )
    flags = ["--images", str(tmp_path / "x.png"), "--weights", str(TINY_WEIGHTS), "--output", str(tmp_path / "out")]
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert (
        "a local run needs the network's packages: torch, detectron2 not installed: expected the extra" in error
        and error.count("\n") == 1
    )
    assert not (tmp_path / "out").exists()
