"""What a run says on its streams and in --log_json: first, last, and in between."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from beam_pipeline import full_disk
from beam_pipeline.progress.event_log import EventLog
from region_features.planning import catalog
from tests.conftest import write_photo
from tests.samples.program import run
from transforms import shards

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Said(NamedTuple):
    out: list[str]
    err: list[str]
    events: list[dict[str, Any]]


class Session:
    """Runs on one folder, with what each says."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._log, self._capsys = folder / "log.jsonl", capsys

    def run(self, *flags: object, status: int = 0) -> Said:
        before = len(self._log.read_text().splitlines()) if self._log.exists() else 0
        self._capsys.readouterr()
        assert run(*flags, "--log_json", self._log) == status
        said = self._capsys.readouterr()
        events = [json.loads(line) for line in self._log.read_text().splitlines()[before:]]
        assert all(TIME.fullmatch(event.pop("time")) for event in events)
        return Said(said.out.splitlines(), said.err.splitlines(), events)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Session:
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        write_photo(Path(f"photos/a_{number}.jpg"), number)
    return Session(tmp_path, capsys)


def of_kind(said: Said, name: str) -> list[dict[str, Any]]:
    return [event for event in said.events if event["event"] == name]


def test_a_run_a_rerun_and_one_that_takes_records_over_say_what_they_did(session: Session) -> None:
    flags = ("--images", "photos", "--outputs", "tfrecord", "--num_shards", 2)
    first = session.run(*flags, "--output", "out")
    assert re.match(r"computed 4 images in \d\d:\d\d", first.out[0])
    assert first.out[1] == "photos: 4 of 4 images in 2 shards, 0 failed"
    assert first.out[-4:] == [
        "look next:",
        "  python -m beam_pipeline.inspect out",
        "  python -m beam_pipeline.inspect out a_0 --draw boxes.png",
        "  python -m beam_pipeline.report out",
    ]
    assert first.events[0]["event"] == "begin" and first.events[0]["program"] == "beam_pipeline"
    assert first.events[-1]["event"] == "end" and first.events[-1]["status"] == 0
    begun, ended = ([event["phase"] for event in of_kind(first, f"phase_{edge}")] for edge in ("begin", "end"))
    assert begun == ended
    assert [phase for phase in begun if phase != "starting"] == ["listing", "planning", "joining captions", "detecting"]
    (detecting,) = [event for event in of_kind(first, "phase_end") if event["phase"] == "detecting"]
    assert (detecting["done"], detecting["total"], detecting["unit"]) == (4, 4, "images")
    assert of_kind(first, "summary")[0]["text"] == first.out[0]
    assert {f"warning: {event['text']}" for event in of_kind(first, "warning")} <= set(first.out)

    again = session.run(*flags, "--output", "out")
    assert re.match(r"reused 2 shards \(4 images\), computed 0 in \d\d:\d\d$", again.out[0])
    (result,) = of_kind(again, "result")
    assert result == {
        "event": "result",
        "output": "out",
        "reused_shards": 2,
        "reused_images": 4,
        "taken_records": 0,
        "computed": 0,
        "failed": 0,
        "images_per_second": 0.0,
    }

    Path("photos/a_9.jpg").write_bytes(b"no image")
    write_photo(Path("photos/a_8.jpg"), 8)
    grown = session.run(*flags, "--output", "new", "--reuse", "out", "--failure_threshold", "1")
    assert re.match(r"took over 4 records of out, computed 1, 1 failed in \d\d:\d\d", grown.out[0])
    assert (of_kind(grown, "result")[0]["taken_records"], of_kind(grown, "result")[0]["failed"]) == (4, 1)

    refused = session.run(*flags, "--output", "out", status=2)
    assert [event["event"] for event in refused.events if not event["event"].startswith("phase_")] == [
        "begin",
        "error",
        "end",
    ]
    assert f"beam_pipeline: {of_kind(refused, 'error')[0]['text']}" == refused.err[-1]
    assert refused.events[-1]["status"] == 2


def test_a_quiet_run_prints_warnings_and_errors_alone(session: Session) -> None:
    flags = ("--images", "photos", "photos/a_1.jpg", "--outputs", "tfrecord", "--quiet")
    said = session.run(*flags, "--output", "out")
    assert said.out == []
    assert said.err and all(" warning: " in line for line in said.err)
    assert of_kind(said, "note") and of_kind(said, "summary")


def test_a_disk_that_is_too_small_is_noted_and_one_that_is_full_named_with_its_room(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_record(stream: Any, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "write_record", write_record)
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(full_disk.shutil, "disk_usage", lambda folder: usage._replace(free=1_500_000))
    said = session.run("--images", "photos", "--outputs", "tfrecord", "--output", "out", status=1)
    assert said.err[0].endswith(
        " note: out: about 2.3 MB are needed for the shards of 4 images, and 1.5 MB are free; make room, or the run "
        "ends when the disk is full"
    )
    assert said.err[-1].startswith("beam_pipeline: the run failed: the disk of out is full (")
    assert said.err[-1].endswith(
        "): all shards take about 2.3 MB, each of the other outputs up to as much again, and 1.5 MB are free; make "
        "room; run the same command again to go on"
    )


def test_no_room_for_temporary_files_is_one_line_that_names_their_folder(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(full_disk.shutil, "disk_usage", lambda folder: usage._replace(free=1_500_000))
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    expected = (
        f"the disk of the temporary files is full: {tmp_path} has 1.5 MB free, and a run takes about 1 kB an image "
        "there, 3 kB with captions; make room, or set TMPDIR to a folder on another disk; "
    )
    flags = ("--images", "photos", "--outputs", "tfrecord", "--output", "out")
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "_SCHEMA", f"PRAGMA max_page_count=8; {catalog._SCHEMA}")
        said = session.run(*flags, status=1)
    assert said.err == [f"beam_pipeline: {expected}then run the same command again"]
    assert not Path("out").exists()

    def write_record(stream: Any, data: bytes) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(shards, "write_record", write_record)
    said = session.run(*flags, status=1)
    assert said.err[-1] == f"beam_pipeline: the run failed: {expected}run the same command again to go on"
    assert "Traceback" not in "".join(said.err)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("gs://bucket/log.jsonl", "expected a local file"),
        ("nowhere/log.jsonl", "expected a file to append to, got: No such file or directory; check the path"),
        ("photos", "got: Is a directory"),
    ],
)
def test_a_log_that_cannot_be_written_is_refused(
    session: Session, capsys: pytest.CaptureFixture[str], path: str, words: str
) -> None:
    assert run("--images", "photos", "--output", "out", "--log_json", path) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"beam_pipeline: --log_json {path}: ") and words in error and error.count("\n") == 1
    assert not Path("out").exists()


def test_events_are_appended_after_a_line_that_a_killed_run_left(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"event": "beg')
    log = EventLog(str(path))
    log.write("note", text="käse\n\udcff")
    assert path.read_bytes().count(b"\n") == 2  # flushed
    log.close()
    log.write("note", text="after the end")
    lines = path.read_text().splitlines()
    assert lines[0] == '{"event": "beg' and json.loads(lines[1])["text"] == "käse\n\udcff"
