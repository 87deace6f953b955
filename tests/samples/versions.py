"""A corpus that changes, its rebuilds with a fake network, and what latest.json promises."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from beam_pipeline.rebuild.command import main
from tests.conftest import TINY_WEIGHTS
from tests.samples.fakes import FakeHandler, fake_prepare


def rebuild(root: object, *flags: object) -> int:
    """Run the command with these flags and the narrow network's weights; return its exit status."""
    argv = [str(root), *map(str, flags), "--weights", str(TINY_WEIGHTS)]
    return main(argv, FakeHandler(), fake_prepare)


def version_names(root: Path) -> list[str]:
    """List the versions, the oldest first."""
    return sorted(path.name for path in (root / "versions").iterdir())


def latest_folder(root: Path) -> Path:
    """Return the folder of the latest version, after a check that it is whole: every file, by its SHA-256."""
    latest = json.loads((root / "latest.json").read_text())
    folder = root / "versions" / latest["version"]
    data = (folder / "manifest.json").read_bytes()
    assert hashlib.sha256(data).hexdigest() == latest["manifest_sha256"]
    manifest = json.loads(data)
    assert manifest["status"] == "done"
    for path, row in manifest["digests"].items():
        assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == row["sha256"], path
    return folder
