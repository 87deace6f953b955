"""Imports run one way, and a job is built without the worker's heavy packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "torchvision", "detectron2", "tensorflow", "lmdb", "cv2", "PIL")
# What every transform file may use of its own folder.
SHARED = {
    "transforms.failures",
    "transforms.files",
    "transforms.inference",
    "transforms.published",
    "transforms.weights_cache",
}


def imports(path: Path, top_only: bool = False) -> set[str]:
    """Modules that a file imports, as dotted names; from-imports count with the imported name."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def within(name: str, packages: tuple[str, ...] | set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


@pytest.mark.parametrize("path", sorted((ROOT / "transforms" / "records").glob("*.py")), ids=lambda path: path.name)
def test_records_know_no_beam_and_nothing_above_them(path: Path) -> None:
    ours = {name for name in imports(path) if within(name, ("transforms", "beam_pipeline"))}
    assert all(within(name, ("transforms.records",)) for name in ours)
    assert not [name for name in imports(path) if within(name, ("apache_beam", "torch", "tensorflow", "detectron2"))]


@pytest.mark.parametrize("path", sorted((ROOT / "transforms" / "detector").glob("*.py")), ids=lambda path: path.name)
def test_detector_knows_no_beam(path: Path) -> None:
    ours = {name for name in imports(path) if within(name, ("transforms", "beam_pipeline"))}
    assert all(within(name, ("transforms.records", "transforms.detector")) for name in ours)
    assert not [name for name in imports(path) if within(name, ("apache_beam", "tensorflow"))]


@pytest.mark.parametrize("path", sorted((ROOT / "transforms").glob("*.py")), ids=lambda path: path.name)
def test_transforms_import_shared_files_and_records_only(path: Path) -> None:
    for name in imports(path):
        if not within(name, ("transforms", "beam_pipeline")):
            continue
        if within(name, ("transforms.detector",)):
            assert path.name == "detection.py"
            assert name not in imports(path, top_only=True)
        else:
            assert within(name, SHARED | {"transforms.records"}), f"{path.name} imports {name}"


@pytest.mark.parametrize("module", ["beam_pipeline.pipeline", "beam_pipeline.options"])
def test_a_job_is_built_without_heavy_packages(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
