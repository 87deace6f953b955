"""The wheel holds every file that the library reads, the licence and the credits."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.conftest import ROOT


def test_the_wheel_holds_the_names_and_their_credit(tmp_path: Path) -> None:
    for name in ("region_features", "transforms", "beam_pipeline"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, tmp_path)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run([*command, "--wheel-dir", "dist"], cwd=tmp_path, check=True, timeout=240)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        listed = archive.read("region_features/names/visual_genome_objects.txt")
    own = {path.relative_to(ROOT).as_posix() for path in (ROOT / "region_features").rglob("*") if path.is_file()}
    assert {name for name in own if "__pycache__" not in name} <= packed
    assert len(listed.splitlines()) == 1600
    assert any(name.endswith("licenses/NOTICE") for name in packed)

    code = "from region_features.names import visual_genome; print(visual_genome().object_name(50))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "dist",
        env={"PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "man\n", done.stderr
