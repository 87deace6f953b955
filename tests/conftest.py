"""Shared parts of the tests: photographs, a COCO corpus, the narrow network's weights, the skips that are allowed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beam_pipeline.progress.console import Console

ROOT = Path(__file__).resolve().parents[1]
TINY_WEIGHTS = ROOT / "tests" / "data" / "tiny.caffemodel"
RECORDINGS = ROOT.parent / "shared" / "golden"

NO_GPU = "this machine has no GPU"
NO_BFLOAT16 = "this CPU has no bfloat16"
NO_ONEDNN = "this torch has no fused convolutions of oneDNN"
NO_RECORDINGS = "the photographs and third-party rows may not be committed, and are not beside the repository"
NO_CHROMIUM = "this machine has no Chromium (Debian: apt-get install chromium)"
# (start of a test's id, reason): what a sound machine may lack. Any other skip fails the session.
EXPECTED_SKIPS = (
    ("tests/detector/test_gpu.py", NO_GPU),
    ("tests/detector/test_detectron2_detector.py", NO_BFLOAT16),
    ("tests/detector/test_precision.py", NO_BFLOAT16),
    ("tests/detector/test_private_apis.py", NO_ONEDNN),
    ("tests/detector/test_parity.py", NO_RECORDINGS),
    ("tests/detector/test_stages.py", NO_RECORDINGS),
    ("tests/detector/test_stages.py", NO_ONEDNN),
    ("tests/library/test_health.py", NO_RECORDINGS),
    ("tests/library/test_names.py", NO_RECORDINGS),
    ("tests/library/test_tsv.py", NO_RECORDINGS),
    ("tests/library/test_volta.py", NO_RECORDINGS),
    ("tests/program/test_health.py", NO_RECORDINGS),
    ("tests/transforms/test_imports.py", NO_RECORDINGS),
    ("tests/transforms/test_round_trips.py", NO_RECORDINGS),
    # .ci/run installs it.
    *(() if os.environ.get("CI") else (("tests/program/test_report_page.py", NO_CHROMIUM),)),
)


def unexpected_skips(config: pytest.Config) -> list[str]:
    """List the skipped tests that `EXPECTED_SKIPS` does not name, each with its reason."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    skips = [(report.nodeid, str(report.longrepr[2])) for report in reporter.stats.get("skipped", ())]
    return [
        f"{test}: {reason}"
        for test, reason in skips
        if not any(test.startswith(start) and known in reason for start, known in EXPECTED_SKIPS)
    ]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a session that skipped a test unexpectedly; of several processes, the one that reports decides."""
    if hasattr(session.config, "workerinput"):
        return
    ended_well = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    if ended_well and unexpected_skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the tests that were skipped unexpectedly."""
    for line in unexpected_skips(config):
        terminalreporter.write_line(f"UNEXPECTED SKIP {line} (allow it in EXPECTED_SKIPS of tests/conftest.py)")


def recording(pattern: str) -> Path:
    """Find the one recording of that name or glob; skip the test on a machine that has no recordings."""
    if not RECORDINGS.is_dir():
        pytest.skip(NO_RECORDINGS)
    (path,) = RECORDINGS.glob(pattern)
    return path


@pytest.fixture(scope="session")
def real_tsv() -> Path:
    """Find ten real rows of the real network, in the ten-column TSV form."""
    return recording("coco10_obj36.tsv")


@pytest.fixture(autouse=True)
def fresh_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a console of its own, as a process has: how long it was silent decides what a log is told."""
    monkeypatch.setattr("beam_pipeline.progress.console._current", Console())


def write_photo(path: Path, seed: int, size: tuple[int, int] = (30, 40)) -> None:
    """Write a PNG or JPEG of random blocks, never black at its first pixel."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(40, 255, (size[0] // 5, size[1] // 5, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blocks.repeat(5, 0).repeat(5, 1)).save(path)


def karpathy_row(folder: str, name: str, coco_id: int, split: str, count: int = 5) -> dict[str, Any]:
    """Make one image of dataset_coco.json."""
    sentences = [
        {"tokens": ["a", "b"], "raw": f"Café {coco_id} number {i}. ", "imgid": coco_id, "sentid": coco_id * 10 + i}
        for i in range(count)
    ]
    return {
        "filepath": folder,
        "sentids": [row["sentid"] for row in sentences],
        "filename": name,
        "imgid": coco_id,
        "split": split,
        "sentences": sentences,
        "cocoid": coco_id,
    }


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Make a corpus of 7 train, 5 val and 3 test images; one image has no captions, one caption row no image."""
    root = tmp_path / "mscoco"
    rows = []
    for folder, ids in (("train2014", range(9, 16)), ("val2014", range(100, 105)), ("test2015", range(3))):
        for coco_id in ids:
            name = f"COCO_{folder}_{coco_id:012d}.jpg"
            write_photo(root / "images" / folder / name, coco_id)
            if folder != "test2015" and coco_id != 104:
                split = {100: "test", 101: "val", 102: "restval"}.get(coco_id, "train")
                rows.append(karpathy_row(folder, name, coco_id, split, 5 + coco_id % 2))
    rows.append(karpathy_row("val2014", "COCO_val2014_000000000777.jpg", 777, "test"))
    (root / "dataset_coco.json").write_text(json.dumps({"images": rows, "dataset": "coco"}))
    (root / "test1k_ids.txt").write_text("777\n100\n")
    return root


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Read every file below a folder: relative path -> content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
