"""Imports run down through three layers, and a job is built without the worker's heavy packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Each layer, and the packages that it must not import anywhere, not even inside a function.
LAYERS = {
    "region_features": ("apache_beam", "transforms", "beam_pipeline"),
    "transforms": ("beam_pipeline",),
    "beam_pipeline": (),
}
# The library's rooms, from the bottom to the top: a room imports rooms that stand before it, and itself.
ROOMS = (
    "allocation",
    "records",
    "names",
    "drawing",
    "background",
    "formats",
    "planning",
    "images",
    "download",
    "detector",
    "lmdb_store",
    "validation",
    "health",
    "negatives",
    "comparison",
    "report",
    "exports",
    "reading",
    "sources",
    "__init__",
)
HEAVY = (
    "torch",
    "torchvision",
    "detectron2",
    "tensorflow",
    "lmdb",
    "cv2",
    "PIL",
    "simplejpeg",
    "h5py",
    "msgpack",
    "matplotlib",
)
FILES = [path.relative_to(ROOT) for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]


def imported_modules(path: Path) -> set[str]:
    """Modules that a file imports at any place, as dotted names; from-imports count with the imported name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and node.level == 0, f"{path}, line {node.lineno}: a relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def room_of(name: str) -> str:
    """The room of a module of the library; that of the package itself is `__init__`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "__init__"


def test_every_layer_and_room_has_files() -> None:
    assert {path.parts[0] for path in FILES} == set(LAYERS)
    library = [path.with_suffix("").parts[1] for path in FILES if path.parts[0] == "region_features"]
    assert set(library) == set(ROOMS)


def test_an_import_at_any_place_of_a_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("import a\n\ndef f():\n    from b.c import d\n    import e.f\n")
    assert imported_modules(path) == {"a", "b.c.d", "e.f"}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_run_down_through_the_layers(path: Path) -> None:
    forbidden = LAYERS[path.parts[0]]
    assert not [name for name in imported_modules(path) if name.split(".")[0] in forbidden]


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "region_features"], ids=str)
def test_imports_inside_the_library_run_towards_the_records(path: Path) -> None:
    own = ROOMS.index(room_of(".".join(path.with_suffix("").parts)))
    library = [name for name in imported_modules(path) if name.split(".")[0] == "region_features"]
    assert [name for name in library if ROOMS.index(room_of(name)) > own] == []


@pytest.mark.parametrize(
    "module", ["beam_pipeline.pipeline", "beam_pipeline.flags.options", "beam_pipeline.compare.command"]
)
def test_a_job_is_built_without_heavy_packages(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
