"""What a program shows while it works: on a terminal, in a log, in a notebook, with --quiet."""

from __future__ import annotations

import io
import re
import threading
from typing import Any

import pytest

from beam_pipeline.progress import meter
from beam_pipeline.progress.console import Console
from beam_pipeline.progress.meter import Meter, State
from beam_pipeline.progress.run_progress import RunProgress, TransferProgress, show_count
from transforms.metrics import IMAGES_DETECTED
from transforms.shards import IMAGES_FAILED, IMAGES_WRITTEN
from transforms.tasks import at_work

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Notebook(io.StringIO):
    """The stream of a notebook's kernel, by the name of its module."""


Notebook.__module__ = "ipykernel.iostream"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines_of(stream: io.StringIO) -> list[str]:
    """The lines of a log, whose time stamps are checked and cut."""
    lines = stream.getvalue().splitlines()
    assert all(re.match(STAMP, line) for line in lines)
    return [re.sub(STAMP, "", line, count=1) for line in lines]


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (State(0, 100), "detecting: 0 of 100 images"),
        (State(50, 100, 5.0, 10.0, ", 1 failed"), "detecting: 50 of 100 images, 5.00 images/s, 00:10 left, 1 failed"),
        (State(1, 123_287, 0.0625, 1972576), "detecting: 1 of 123287 images, 0.06 images/s, 547:56:16 left"),
        (State(100, 100, 10.0, 0.0), "detecting: 100 of 100 images, 10.00 images/s"),
        (State(0, 0), "detecting: 0 of 0 images"),
        (State(7, None, 2.0), "detecting: 7 images, 2.00 images/s"),
    ],
)
def test_a_line_says_how_much_is_done_and_left(state: State, line: str) -> None:
    assert Meter("detecting", " images", Console(io.StringIO())).text(state) == line


def test_bytes_are_scaled_and_what_is_not_counted_is_timed() -> None:
    clock, target = Clock(), Console(io.StringIO())
    shown = Meter("train2014.zip", "B", target)
    assert shown.text(State(50_000_000, 100_000_000, 5e6, 10)) == (
        "train2014.zip: 50.0M of 100MB, 5.00MB/s, 00:10 left"
    )
    assert shown.text(State(50_000_000, None, 5e6)) == "train2014.zip: 50.0MB, 5.00MB/s"
    loading = Meter("loading the network", "", target, clock)
    clock.now += 12
    assert loading.text(State(0)) == "loading the network: for 00:12"


class Counts:
    """Counters that grow when told to."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.asked = threading.Event()

    def __call__(self) -> dict[str, int]:
        self.asked.set()
        return dict(self.values)


def progress(counts: Any, stream: io.StringIO, total: int = 100, before: int = 0) -> RunProgress:
    return RunProgress("detecting", total, before, counts, 0.001, Console(stream))


def test_a_terminal_gets_a_bar_that_ends_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "BAR_SECONDS", 0.0)
    monkeypatch.setenv("COLUMNS", "200")
    stream, counts = Terminal(), Counts()
    with progress(counts, stream, 100, 20):
        assert counts.asked.wait(5)
        counts.asked.clear()
        assert counts.asked.wait(5)
        counts.values = {IMAGES_WRITTEN: 70, IMAGES_FAILED: 10}
    text = stream.getvalue()
    assert text.endswith("\n") and text.count("\n") == 2
    first, *_, last = text.split("\r")[1:]
    assert first.startswith("starting: for 00:00")
    assert last.startswith("detecting: 100%|###") and "| 100 of 100 images" in last and ", 10 failed" in last


@pytest.mark.parametrize("columns", [10, 40, 60, 80, 100, 200])
def test_a_bar_never_reaches_the_terminals_last_column(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    shown = Meter("detecting", " images", Console(stream))
    shown.show(State(123_200, 123_287, 5.0, 20.0, ", 200 failed, lmdb records written 100000"))
    text = stream.getvalue().removeprefix("\r").removesuffix("\x1b[K")
    assert 0 < len(text) < columns
    assert ("123200 of 123287 images" in text) == (columns > 40)


def test_the_bar_moves_with_every_image_that_is_detected_and_not_with_the_batch_that_is_written() -> None:
    counts: dict[str, int] = {}
    shown = progress(lambda: counts, io.StringIO(), 20, 2)
    for number in range(1, 9):
        counts[IMAGES_DETECTED] = number
        assert shown.images().done == 2 + number
    counts[IMAGES_WRITTEN] = 8
    assert shown.images().done == 10


def test_each_phase_has_its_own_bar_and_a_short_one_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "BAR_SECONDS", 0.0)
    monkeypatch.setenv("COLUMNS", "120")
    stream, counts = Terminal(), {IMAGES_WRITTEN: 0}
    shown = RunProgress("detecting", 4, 0, lambda: counts, 60, Console(stream))
    shown.poll()
    with at_work("loading the network"):
        shown.poll()
        shown.poll()
    shown.poll()
    counts[IMAGES_WRITTEN] = 4
    with at_work("building lmdb, trainval_feat.lmdb", "B", 5_000_000_000) as task:
        task.advance(3_000_000_000)
        shown.poll()
    shown.poll()
    with at_work("publishing lmdb, trainval_feat.lmdb"):
        shown.poll()
    with shown:
        pass
    bars = [line.split("\r")[-1].removesuffix("\x1b[K") for line in stream.getvalue().split("\n")[:-1]]
    assert [re.sub(r"\|.*\|", "|", bar) for bar in bars] == [
        "starting: for 00:00",
        "loading the network: for 00:00",
        "detecting: 100%| 4 of 4 images",
        "building lmdb, trainval_feat.lmdb: 100%| 5.00G of 5.00GB",
        "publishing lmdb, trainval_feat.lmdb: for 00:00",
    ]
    assert "building lmdb, trainval_feat.lmdb:  60%|" in stream.getvalue() and "3.00G of 5.00GB" in stream.getvalue()


def test_without_a_terminal_stamped_lines_come_in_long_intervals_whatever_the_phase() -> None:
    assert meter.LINE_SECONDS == 30.0
    stream, clock = io.StringIO(), Clock()
    target = Console(stream)
    listing = Meter("listing", " images", target, clock)
    clock.now += 20
    listing.offer(State(5))
    listing.close(State(5))
    assert stream.getvalue() == ""  # a short run prints nothing but its summary
    planning = Meter("planning", " images", target, clock)
    clock.now += 10
    for number in (1, 2):
        planning.offer(State(number, 9))
    clock.now += 29
    planning.offer(State(3, 9))
    clock.now += 1
    planning.offer(State(4, 9))
    planning.close(State(9, 9))
    assert lines_of(stream) == [f"planning: {number} of 9 images" for number in (1, 4, 9)]
    assert "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()


def test_the_display_thread_ends_with_the_run_even_if_it_fails() -> None:
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="the run failed"), progress(dict, Terminal()):
        raise RuntimeError("the run failed")
    assert not set(threading.enumerate()) - before


def test_images_that_a_runner_counts_twice_never_exceed_the_total() -> None:
    state = progress(lambda: {IMAGES_WRITTEN: 9}, io.StringIO(), 10, 5).images()
    assert (state.done, state.total) == (10, 10)


def test_what_remote_workers_report_of_exports_is_named() -> None:
    state = progress(lambda: {IMAGES_WRITTEN: 9, "lmdb_records_written": 7}, io.StringIO()).images()
    assert state.note == ", lmdb records written 7"


def test_a_transfer_shows_bytes_now_and_then_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    clock, stream = Clock(), Terminal()
    target = Console(stream)
    with TransferProgress("a.zip", target, clock) as transfer:
        transfer(2_000_000, 10_000_000)  # of an earlier attempt
        clock.now += 0.4
        transfer(4_000_000, 10_000_000)
        assert stream.getvalue() == ""
        clock.now += 0.6
        transfer(6_000_000, 10_000_000)
        target.line("trying again in 1 s")
        clock.now += 1.0
        transfer(10_000_000, 10_000_000)
    first, note, _, *_, last = stream.getvalue().split("\r")[1:]
    assert first.startswith("a.zip:  60%|") and "6.00M of 10.0MB, 4.00MB/s, 00:01 left" in first
    assert note == "\x1b[Ktrying again in 1 s\n"
    assert last.startswith("a.zip: 100%|") and last.endswith("\x1b[K\n")


def test_a_transfer_in_a_log_prints_lines_and_no_control_characters() -> None:
    clock, stream = Clock(), io.StringIO()
    target = Console(stream)
    with TransferProgress("a.zip", target, clock) as transfer:
        for seconds in (0.0, 10.0, 31.0, 40.0, 62.0):
            clock.now = 100.0 + seconds
            transfer(int(seconds * 1e6), None)
        target.line("done")
    assert [line.split(",")[0] for line in lines_of(stream)] == [
        "a.zip: 31.0MB",
        "a.zip: 62.0MB",
        "done",
    ]  # the end is not said twice


def test_what_is_short_is_silent() -> None:
    stream = Terminal()
    with TransferProgress("a.zip", Console(stream)):
        pass
    assert list(show_count("abc", "listing", " images", 3, Console(stream))) == ["a", "b", "c"]
    assert stream.getvalue() == ""


def test_a_note_stands_above_the_bar_on_a_terminal_and_in_a_notebook() -> None:
    for stream, clear in ((Terminal(), "\x1b[K"), (Notebook(), "")):
        target = Console(stream)
        target.note("first")
        target.draw("50%")
        target.note("second")
        target.leave_bar()
        target.note("third")
        shown = stream.getvalue().replace("\x1b[K", "")
        assert shown == "note: first\n\r50%\rnote: second\n\r50%\nnote: third\n"
        assert clear in stream.getvalue()


def test_a_quiet_console_prints_errors_and_warnings_alone(capsys: pytest.CaptureFixture[str]) -> None:
    stream = Terminal()
    target = Console(stream, quiet=True)
    target.note("a note")
    Meter("detecting", " images", target).show(State(1, 2))
    Meter("detecting", " images", target).close(State(2, 2))
    target.summarize(["computed 2 images", "warning: are these the real weights?"])
    target.fail("beam_pipeline", "the run failed")
    assert stream.getvalue() == "warning: are these the real weights?\nbeam_pipeline: the run failed\n"
    assert capsys.readouterr().out == ""
