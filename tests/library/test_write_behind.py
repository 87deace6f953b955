"""A file flushed while it grows, and a flush that fails."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from region_features.lmdb_store import write_behind
from region_features.lmdb_store.write_behind import WriteBehind


def test_it_flushes_whenever_enough_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flushed = tmp_path / "a", threading.Event()
    path.write_bytes(b"some")
    monkeypatch.setattr(write_behind, "_STEP_BYTES", 10)
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.set())
    with WriteBehind(str(path)) as behind:
        behind.grew(9)
        assert not flushed.wait(0.1)
        behind.grew(1)
        assert flushed.wait(10)
    assert path.read_bytes() == b"some"


def test_a_failed_flush_is_told_to_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"some")

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(write_behind, "_STEP_BYTES", 1)
    monkeypatch.setattr(os, "fsync", broken)
    with (
        pytest.raises(OSError, match=r"Input/output error: what was written to .*/a did not"),
        WriteBehind(str(path)) as behind,
    ):
        behind.grew(1)
        behind._thread.join(10)
    with pytest.raises(OSError, match="Input/output error"), WriteBehind(str(path)) as behind:
        behind.grew(1)
        behind._thread.join(10)
        behind.grew(1)
        pytest.fail("the second call raises")
    with pytest.raises(KeyError), WriteBehind(str(path)) as behind:  # what stopped the writer is what it hears of
        behind.grew(1)
        behind._thread.join(10)
        raise KeyError("x")
