"""A session fails when a test is skipped for a reason that `EXPECTED_SKIPS` does not list."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import EXPECTED_SKIPS, NO_GPU, NO_RECORDINGS, ROOT

FUNCTION = "import pytest\n\ndef test_a(): pass\n\ndef test_b(): pytest.skip({reason!r})\n"
MODULE = "import pytest\npytest.skip({reason!r}, allow_module_level=True)\n"


def run_pytest(folder: Path, name: str, source: str) -> tuple[int, str]:
    """Run a test module of that source in a session of its own, with the hooks of tests/conftest.py."""
    path = folder / name
    path.parent.mkdir(parents=True)
    path.write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", f"--rootdir={folder}", "-c", "/dev/null", path]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_an_expected_skip_passes(tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, "tests/detector/test_gpu.py", FUNCTION.format(reason=NO_GPU))
    assert "1 passed, 1 skipped" in output and "UNEXPECTED" not in output
    assert status == 0


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("tests/detector/test_gpu.py", FUNCTION, "no such package"),
        ("tests/detector/test_gpu.py", FUNCTION, NO_RECORDINGS),
        ("tests/test_other.py", FUNCTION, NO_GPU),
        ("tests/test_other.py", MODULE, "no such package"),
    ],
)
def test_an_unexpected_skip_fails_the_session_and_is_named(tmp_path: Path, name: str, source: str, reason: str) -> None:
    status, output = run_pytest(tmp_path, name, source.format(reason=reason))
    (line,) = [line for line in output.splitlines() if line.startswith("UNEXPECTED SKIP ")]
    assert name in line and reason in line
    assert status == pytest.ExitCode.TESTS_FAILED


def test_expected_skips_name_files_that_exist() -> None:
    assert EXPECTED_SKIPS
    assert [start for start, _ in EXPECTED_SKIPS if not (ROOT / start.partition("::")[0]).is_file()] == []
