"""What a program says where packages are missing, and its version."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from beam_pipeline import __main__
from beam_pipeline.preflight import environment
from tests.conftest import ROOT

COMMANDS = [f"beam_pipeline{name}" for name in ("", ".verify", ".inspect", ".weights", ".rebuild", ".fetch")]


def run(*command: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python on the project without site-packages, so that no package is installed."""
    return subprocess.run(
        [sys.executable, "-S", *command], cwd=path or ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", [*COMMANDS, "beam_pipeline.download"])
def test_every_command_says_in_one_line_which_extra_is_missing(command: str) -> None:
    done = run("-m", command, "--help")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("beam_pipeline: numpy") and done.stderr.count("\n") == 1


def test_a_clone_whose_environment_is_not_active_says_how_to_activate_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".venv").mkdir()
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "beam_pipeline" / "preflight" / "environment.py"))
    monkeypatch.chdir(tmp_path)
    message = environment.how_to_install("beam", ["numpy"])
    assert message.endswith("activate this clone's environment: source .venv/bin/activate")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert environment.how_to_install("beam", ["numpy", "tqdm"]) == (
        "numpy, tqdm not installed: expected the extra `beam`; pip install 'region-features[beam]'"
    )
    (tmp_path / "setup.py").touch()
    message = environment.how_to_install("worker", ["torch", "detectron2"])
    assert f"pip install '{tmp_path}[worker]'" in message and "detectron2 comes apart" in message


def test_a_clone_without_an_environment_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "Makefile").touch()
    monkeypatch.setattr(environment, "__file__", str(clone / "beam_pipeline" / "preflight" / "environment.py"))
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    missing = "apache_beam is not installed in /usr/bin/python3; make this clone's environment and activate it: "
    monkeypatch.chdir(clone)
    assert environment.how_to_install("beam", ["apache_beam"]) == (f"{missing}make setup && source .venv/bin/activate")
    monkeypatch.chdir(tmp_path)
    assert environment.how_to_install("beam", ["apache_beam"]) == (
        f"{missing}make -C clone setup && source clone/.venv/bin/activate"
    )


def test_a_python_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    monkeypatch.setattr(sys, "version", "3.9.2 (default)")
    with pytest.raises(SystemExit) as ended:
        environment.require("beam")
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.startswith("beam_pipeline: expected Python 3.11, 3.12 or 3.13, got 3.9.2 (")
    assert "make setup PYTHON=" in error and error.count("\n") == 1


def test_the_command_alone_shows_three_examples_and_no_list_of_flags(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["beam_pipeline"])
    assert __main__.main() == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("usage: python -m beam_pipeline {--images SOURCE ...")
    assert sum(line.startswith("  python -m beam_pipeline") for line in captured.err.splitlines()) == 3
    assert len(captured.err.splitlines()) < 15 and "--help lists all flags" in captured.err


def test_the_version_is_answered_with_and_without_packages() -> None:
    assert run("-m", "beam_pipeline", "--version").stdout.startswith("region-features")
    command = [sys.executable, "-m", "beam_pipeline", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"region-features {importlib.metadata.version('region-features')}\n"


def test_the_program_runs_as_a_file() -> None:
    """Its folder is then the first that Python imports from: no module of ours may hide one of Python's own."""
    done = subprocess.run(
        [sys.executable, "beam_pipeline/__main__.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


def test_no_module_of_the_program_has_the_name_of_one_of_pythons_own() -> None:
    modules = {path.stem for path in (ROOT / "beam_pipeline").glob("*.py")} - {"__init__", "__main__"}
    packages = {path.parent.name for path in (ROOT / "beam_pipeline").glob("*/__init__.py")}
    assert len(modules) > 10
    assert not (modules | packages) & sys.stdlib_module_names


def test_missing_modules_are_those_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(environment.EXTRAS, "beam", ("json", "no_such_module", "no.such.package"))
    assert environment.missing_modules("beam") == ["no_such_module", "no.such.package"]


@pytest.mark.parametrize(
    "command", ["beam_pipeline --help", "beam_pipeline.weights inspect tests/data/tiny.caffemodel"]
)
def test_a_reader_that_has_seen_enough_is_no_error(command: str) -> None:
    pipe = f"{sys.executable} -m {command} | head -c 1"
    done = subprocess.run(pipe, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "" and len(done.stdout) == 1
