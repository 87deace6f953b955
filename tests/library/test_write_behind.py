"""Flushes of a growing file, and a flush that fails."""

from __future__ import annotations

import os
import threading
from concurrent.futures import wait
from pathlib import Path

import pytest

from region_features.lmdb_store import write_behind
from region_features.lmdb_store.write_behind import WriteBehind


def test_a_file_is_flushed_each_time_it_has_grown_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flushed = tmp_path / "a", threading.Event()
    path.write_bytes(b"some")
    monkeypatch.setattr(write_behind, "_STEP_BYTES", 10)
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.set())
    with WriteBehind(str(path)) as flusher:
        flusher.grew(9)
        assert not flushed.wait(0.1)
        flusher.grew(1)
        assert flushed.wait(10)
    assert path.read_bytes() == b"some"


def wait_for_flush(flusher: WriteBehind) -> None:
    assert flusher._last_flush is not None
    wait([flusher._last_flush], 10)


def test_a_failed_flush_is_raised_in_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"some")

    def failing_fsync(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(write_behind, "_STEP_BYTES", 1)
    monkeypatch.setattr(os, "fsync", failing_fsync)
    with (
        pytest.raises(OSError, match=r"Input/output error: what was written to .*/a did not"),
        WriteBehind(str(path)) as flusher,
    ):
        flusher.grew(1)
        wait_for_flush(flusher)
    with pytest.raises(OSError, match="Input/output error"), WriteBehind(str(path)) as flusher:
        flusher.grew(1)
        wait_for_flush(flusher)
        flusher.grew(1)
        pytest.fail("the second call raises")
    with pytest.raises(KeyError), WriteBehind(str(path)) as flusher:  # an error of the writer itself comes first
        flusher.grew(1)
        wait_for_flush(flusher)
        raise KeyError("x")
