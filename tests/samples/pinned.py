"""Input files as they are now."""

from __future__ import annotations

from pathlib import Path

from transforms.files import sha256_of
from transforms.input_files import PinnedFile


def pin(path: str | Path) -> PinnedFile:
    return PinnedFile(str(path), sha256_of(str(path)))
