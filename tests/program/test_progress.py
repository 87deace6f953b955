"""What a run shows while it works."""

from __future__ import annotations

import io
import math
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from beam_pipeline import progress
from beam_pipeline.progress import Progress, progress_line
from transforms.shards import IMAGES_FAILED, IMAGES_WRITTEN


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ((0, 100, 0, 0, 0.0), "0/100 images, 0.00 images/s, -:-- left, 0 failed"),
        ((0, 100, 0, 0, 9.0), "0/100 images, 0.00 images/s, -:-- left, 0 failed"),
        ((50, 100, 1, 50, 10.0), "50/100 images, 5.00 images/s, 0:10 left, 1 failed"),
        ((60, 100, 1, 10, 10.0), "60/100 images, 1.00 images/s, 0:40 left, 1 failed"),
        ((40, 100, 0, 0, 3.0), "40/100 images, 0.00 images/s, -:-- left, 0 failed"),
        ((100, 100, 2, 100, 10.0), "100/100 images, 10.00 images/s, 0:00 left, 2 failed"),
        ((1, 123_287, 0, 1, 16.0), "1/123287 images, 0.06 images/s, 547:56:16 left, 0 failed"),
        ((1, 3600, 0, 1, 1.0), "1/3600 images, 1.00 images/s, 59:59 left, 0 failed"),
        ((0, 3600, 0, 1, 1.0), "0/3600 images, 1.00 images/s, 1:00:00 left, 0 failed"),
        ((0, 0, 0, 0, 0.0), "0/0 images, 0.00 images/s, -:-- left, 0 failed"),
        ((5, 5, 0, 5, 1.0, 4), "5/5 images, 5.00 images/s, 0:00 left, 0 failed, LMDB 4 records"),
    ],
)
def test_a_line_shows_images_rate_time_left_and_failures(values: tuple[Any, ...], line: str) -> None:
    assert progress_line(*values) == line


class Counts:
    """Counters that grow when told to."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.asked = threading.Event()

    def __call__(self) -> dict[str, int]:
        self.asked.set()
        return dict(self.values)


def test_a_terminal_gets_a_bar_that_ends_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_BAR_SECONDS", 0.001)
    monkeypatch.setenv("COLUMNS", "200")
    stream, counts = Terminal(), Counts()
    with Progress(100, 20, counts, stream):
        assert counts.asked.wait(5)
        counts.values = {IMAGES_WRITTEN: 70, IMAGES_FAILED: 10}
    text = stream.getvalue()
    assert text.endswith("\n") and text.count("\n") == 1
    first, *_, last = text.split("\r")[1:]
    assert first.startswith("[####....................] 20/100 images, 0.00 images/s, -:-- left, 0 failed")
    assert last.startswith("[########################] 100/100 images, ") and "10 failed" in last


def test_a_bar_never_reaches_the_terminals_last_column(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (10, 40, 60, 80, 100, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        stream = Terminal()
        counts = {IMAGES_WRITTEN: 123_000, IMAGES_FAILED: 200, "lmdb_records_written": 100_000}
        bar = Progress(123_287, 0, lambda: counts, stream)  # noqa: B023
        bar._print_bar()
        shown = stream.getvalue().removeprefix("\r").removesuffix("\x1b[K")
        assert len(shown) < columns
        assert ("123200/123287 images" in shown) == (columns > 20)
        assert shown.startswith("[") == (columns >= 100)


def test_without_a_terminal_plain_lines_come_in_long_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress._LINE_SECONDS == 30.0
    stream, counts = io.StringIO(), Counts()
    with Progress(10, 0, counts, stream):
        pass
    assert stream.getvalue() == ""  # a short run says nothing but its summary
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.001)
    with Progress(10, 4, counts, stream):
        assert counts.asked.wait(5)
        counts.asked.clear()
        assert counts.asked.wait(5)
    lines = stream.getvalue().splitlines()
    assert set(lines) == {"4/10 images, 0.00 images/s, -:-- left, 0 failed"}
    assert "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()


def test_the_display_thread_ends_with_the_run_even_if_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_BAR_SECONDS", 0.001)
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="the run failed"), Progress(1, 0, dict, Terminal()):
        raise RuntimeError("the run failed")
    assert not set(threading.enumerate()) - before


def test_the_rate_leaves_out_the_time_of_the_lmdbs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    counts: dict[str, int] = {}
    shown = Progress(100, 0, lambda: counts, io.StringIO())
    now[0], counts[IMAGES_WRITTEN] = 110.0, 50
    assert "5.00 images/s" in shown._line()[1]
    now[0], counts["lmdb_records_written"] = 1000.0, 7  # the LMDB's time is not the images'
    assert shown._line() == (50, "50/100 images, 5.00 images/s, 0:10 left, 0 failed, LMDB 7 records")
    now[0], counts[IMAGES_FAILED] = 1100.0, 50
    assert shown._line()[1].startswith("100/100 images, 0.10 images/s, 0:00 left, 50 failed")


def test_images_counted_twice_by_a_runner_never_exceed_the_total() -> None:
    # A runner that repeats a bundle counts its images twice.
    done, line = Progress(10, 5, lambda: {IMAGES_WRITTEN: 9}, io.StringIO())._line()
    assert done == 10 and line.startswith("10/10 images")
    assert math.isfinite(done)
