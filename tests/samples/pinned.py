"""Input files as they are now."""

from __future__ import annotations

from pathlib import Path

from transforms.files import PinnedFile, sha256_of


def pin(path: str | Path) -> PinnedFile:
    return PinnedFile(str(path), sha256_of(str(path)))
