"""What a program shows while it works."""

from __future__ import annotations

import io
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from beam_pipeline import progress
from beam_pipeline.progress import Meter, RunProgress, TransferProgress, show_count
from transforms.shards import IMAGES_FAILED, IMAGES_WRITTEN


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ((0, 100, 0.0, "0 failed"), "0 of 100 images, ? images/s, ? left, 0 failed"),
        ((50, 100, 5.0, "1 failed"), "50 of 100 images, 5.00 images/s, 00:10 left, 1 failed"),
        ((1, 123_287, 0.0625, "0 failed"), "1 of 123287 images, 0.06 images/s, 547:56:16 left, 0 failed"),
        ((100, 100, 10.0), "100 of 100 images, 10.00 images/s, 00:00 left"),
        ((0, 0, 0.0), "0 of 0 images, ? images/s, ? left"),
        ((7, None, 2.0), "7 images, 2.00 images/s"),
    ],
)
def test_a_line_says_how_much_is_done_and_left(values: tuple[Any, ...], line: str) -> None:
    shown = Meter("", " images", io.StringIO()).line(*values)
    assert " ".join(shown.split()) == line


def test_bytes_are_scaled_and_the_work_is_named() -> None:
    meter = Meter("train2014.zip", "B", io.StringIO())
    assert meter.line(50_000_000, 100_000_000, 5e6) == "train2014.zip: 50.0M of 100MB, 5.00MB/s, 00:10 left"
    assert meter.line(50_000_000, None, 5e6) == "train2014.zip: 50.0MB, 5.00MB/s"


class Counts:
    """Counters that grow when told to."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.asked = threading.Event()

    def __call__(self) -> dict[str, int]:
        self.asked.set()
        return dict(self.values)


def test_a_terminal_gets_a_bar_that_ends_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "BAR_SECONDS", 0.001)
    monkeypatch.setenv("COLUMNS", "200")
    stream, counts = Terminal(), Counts()
    with RunProgress(100, 20, counts, stream):
        assert counts.asked.wait(5)
        counts.values = {IMAGES_WRITTEN: 70, IMAGES_FAILED: 10}
    text = stream.getvalue()
    assert text.endswith("\n") and text.count("\n") == 1
    first, *_, last = text.split("\r")[1:]
    assert first.startswith(" 20%|###") and "| 20 of 100 images, " in first and "0 failed" in first
    assert last.startswith("100%|###") and "| 100 of 100 images, " in last and "10 failed" in last


@pytest.mark.parametrize("columns", [10, 40, 60, 80, 100, 200])
def test_a_bar_never_reaches_the_terminals_last_column(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    Meter("", " images", stream).show(123_200, 123_287, 5.0, "200 failed, lmdb records written 100000")
    shown = stream.getvalue().removeprefix("\r").removesuffix("\x1b[K")
    assert 0 < len(shown) < columns
    assert ("123200 of 123287 images" in shown) == (columns > 20)


def test_without_a_terminal_plain_lines_come_in_long_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress.LINE_SECONDS == 30.0
    stream, counts = io.StringIO(), Counts()
    with RunProgress(10, 0, counts, stream):
        pass
    assert stream.getvalue() == ""  # a short run prints nothing but its summary
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.001)
    with RunProgress(10, 4, counts, stream):
        assert counts.asked.wait(5)
        counts.asked.clear()
        assert counts.asked.wait(5)
    assert set(stream.getvalue().splitlines()) == {"4 of 10 images, ? images/s, ? left, 0 failed"}
    assert "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()


def test_the_display_thread_ends_with_the_run_even_if_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "BAR_SECONDS", 0.001)
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="the run failed"), RunProgress(1, 0, dict, Terminal()):
        raise RuntimeError("the run failed")
    assert not set(threading.enumerate()) - before


def test_the_rate_leaves_out_the_time_of_the_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    counts: dict[str, int] = {}
    shown = RunProgress(100, 0, lambda: counts, io.StringIO())
    now[0], counts[IMAGES_WRITTEN] = 110.0, 50
    assert shown.state() == (50, 100, 5.0, "0 failed")
    now[0], counts["lmdb_records_written"] = 1000.0, 7  # the LMDB's time is not the images'
    assert shown.state() == (50, 100, 5.0, "0 failed, lmdb records written 7")
    now[0], counts[IMAGES_FAILED] = 1100.0, 50
    assert shown.state() == (100, 100, 0.1, "50 failed, lmdb records written 7")


def test_images_that_a_runner_counts_twice_never_exceed_the_total() -> None:
    done, total, *_ = RunProgress(10, 5, lambda: {IMAGES_WRITTEN: 9}, io.StringIO()).state()
    assert (done, total) == (10, 10)


def test_a_transfer_shows_bytes_now_and_then_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    now = [0.0]
    stream = Terminal()
    with TransferProgress("a.zip", stream, lambda: now[0]) as transfer:
        transfer(2_000_000, 10_000_000)  # of an earlier attempt
        now[0] = 0.4
        transfer(4_000_000, 10_000_000)
        assert stream.getvalue() == ""
        now[0] = 1.0
        transfer(6_000_000, 10_000_000)
        transfer.note("trying again in 1 s")
        now[0] = 2.0
        transfer(10_000_000, 10_000_000)
    first, note, *_, last = stream.getvalue().split("\r")[1:]
    assert first.startswith("a.zip:  60%|") and "6.00M of 10.0MB, 4.00MB/s, 00:01 left" in first
    assert note == "\x1b[Ktrying again in 1 s\n"
    assert last.startswith("a.zip: 100%|") and last.endswith("\x1b[K\n")


def test_a_transfer_in_a_log_prints_lines_and_no_control_characters() -> None:
    now = [0.0]
    stream = io.StringIO()
    with TransferProgress("a.zip", stream, lambda: now[0]) as transfer:
        for seconds in (0.0, 10.0, 31.0, 40.0, 62.0):
            now[0] = seconds
            transfer(int(seconds * 1e6), None)
        transfer.note("done")
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "a.zip: 31.0MB",
        "a.zip: 62.0MB",
        "done",
    ]


def test_a_transfer_that_never_began_shows_nothing() -> None:
    stream = Terminal()
    with TransferProgress("a.zip", stream):
        pass
    assert stream.getvalue() == ""


def test_what_takes_long_is_counted_and_what_does_not_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    stream = io.StringIO()
    assert list(show_count("abc", "listing", " images", stream)) == ["a", "b", "c"] and stream.getvalue() == ""
    for _ in show_count("abcdef", "listing", " images", stream):
        now[0] += 20.0
    lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert lines == [f"listing: {number} images, 0.05 images/s" for number in (2, 4, 6)]
