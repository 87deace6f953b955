"""The whole program with a fake network, and the folder of its LMDBs."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipeline.pipeline import main
from tests.conftest import TINY_WEIGHTS
from tests.samples.fakes import FakeHandler, fake_prepare
from transforms.files import TEMP_PREFIX

VOLTA = Path("resnet101_faster_rcnn_genome_imgfeats") / "volta"


def run(*flags: object) -> int:
    """Run the program with these flags; return its exit status."""
    return main([*map(str, flags), "--weights", str(TINY_WEIGHTS)], FakeHandler(), fake_prepare)


def whole_shards(out: Path) -> list[str]:
    """List the stats files of an output, which mark its whole shards."""
    names = (path.name for path in (out / "tfrecord").glob("*.stats.json"))
    return sorted(name for name in names if not name.startswith(TEMP_PREFIX))


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was written to stderr, which is one line."""
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    return error
