"""The environment that a program runs in: its version, and one line for packages that are missing.

Imports nothing but the standard library, so that it works where the packages are missing.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

DISTRIBUTION = "region-features"
_OLDEST_PYTHON = (3, 11)
# Extra -> modules that it brings, as far as a program asks for them.
EXTRAS = {
    "beam": ("numpy", "apache_beam", "filelock", "tqdm"),
    "gcp": ("google.cloud.storage",),
    "formats": ("h5py", "jinja2", "matplotlib", "msgpack", "PIL", "pyarrow"),
    "worker": ("torch", "torchvision", "detectron2", "cv2", "PIL", "simplejpeg"),
}


def version_line() -> str:
    """Return the program's name and version."""
    try:
        return f"{DISTRIBUTION} {importlib.metadata.version(DISTRIBUTION)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{DISTRIBUTION}, not installed: run from its sources"


def missing_modules(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed."""
    return [name for name in EXTRAS[extra] if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package above it
        return False


def how_to_install(extra: str, missing: Sequence[str]) -> str:
    """Say in one line what is missing and the command that brings it: the clone's environment, or the extra."""
    root = Path(__file__).resolve().parents[2]
    venv = root / ".venv"
    if venv.is_dir() and not Path(sys.prefix).samefile(venv):
        activate = os.path.join(os.path.relpath(venv), "bin", "activate")
        return (
            f"{missing[0]} is not installed in {sys.executable}; activate this clone's environment: source {activate}"
        )
    if not venv.is_dir() and (root / "Makefile").is_file():
        place = os.path.relpath(root)
        make = "make setup" if place == "." else f"make -C {place} setup"
        return (
            f"{missing[0]} is not installed in {sys.executable}; make this clone's environment and activate it: {make} "
            f"&& source {os.path.join(os.path.relpath(venv), 'bin', 'activate')}"
        )
    source = f"'{root}[{extra}]'" if (root / "setup.py").is_file() else f"'{DISTRIBUTION}[{extra}]'"
    own_build = "; detectron2 comes apart from it: see CONTRIBUTING.md, Set-up" if "detectron2" in missing else ""
    return f"{', '.join(missing)} not installed: expected the extra `{extra}`; pip install {source}{own_build}"


def require(extra: str) -> None:
    """End the process with one line and status 2 where an extra is not installed, or Python is too old."""
    if sys.version_info[:2] < _OLDEST_PYTHON:
        print(
            f"beam_pipeline: expected Python 3.11, 3.12 or 3.13, got {sys.version.split()[0]} ({sys.executable}); "
            "take a newer one, `make setup PYTHON=/path/to/python3.12` makes an environment of it",
            file=sys.stderr,
        )
        sys.exit(2)
    missing = missing_modules(extra)
    if missing:
        print(f"beam_pipeline: {how_to_install(extra, missing)}", file=sys.stderr)
        sys.exit(2)
