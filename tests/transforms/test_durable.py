"""What is published is on the disk before it has its name, and its name is when the publishing ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from region_features.records.stats import STATS_SUFFIX
from tests.samples.file_server import serving
from tests.samples.program import run
from tests.samples.shards import SETTINGS, elements, run_bundle
from transforms import files
from transforms.durable import sync_folder
from transforms.shards import _WriteShard
from transforms.weights_cache import fetch


class Disk:
    """What the system was asked to bring to the disk, by inode, and where a rename came before that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: dict[int, int] = {}  # inode -> size at that time
        self.too_early: list[str] = []
        self.renamed: list[str] = []
        self.unsettled: set[str] = set()  # folders whose names are not on the disk
        fsync = os.fsync

        def record(descriptor: int) -> None:
            fsync(descriptor)
            status = os.fstat(descriptor)
            self.synced[status.st_ino] = status.st_size
            self.unsettled -= {folder for folder in self.unsettled if os.stat(folder).st_ino == status.st_ino}

        def renaming(rename: Callable[..., None]) -> Callable[..., None]:
            def recorded(source: Any, target: Any) -> None:
                status = os.stat(source)
                if self.synced.get(status.st_ino) != status.st_size:
                    self.too_early.append(os.fspath(target))
                rename(source, target)
                self.renamed.append(os.path.basename(target))
                self.unsettled.add(os.path.dirname(os.path.abspath(target)))

            return recorded

        monkeypatch.setattr(os, "fsync", record)
        monkeypatch.setattr(os, "rename", renaming(os.rename))
        monkeypatch.setattr(os, "replace", renaming(os.replace))


def test_a_published_file_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = tmp_path / "built"
    built.write_bytes(b"built")
    disk = Disk(monkeypatch)
    files.publish_bytes(str(tmp_path / "a" / "bytes"), [b"one", b"two"])
    files.publish_file(str(built), str(tmp_path / "b" / "file"))
    monkeypatch.chdir(tmp_path)
    files.publish_bytes("here", [b"in the current folder"])
    assert disk.renamed == ["bytes", "file", "here"] and not disk.too_early and not disk.unsettled


def test_a_published_shard_and_its_stats_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    (name,) = run_bundle(_WriteShard(str(tmp_path), SETTINGS), elements())
    assert disk.renamed == [name, name + STATS_SUFFIX] and not disk.too_early and not disk.unsettled


def test_every_file_of_a_run_is_on_the_disk(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    flags = ["--corpus", corpus, "--output", tmp_path / "out", "--outputs", "tfrecord,lmdb,tsv,negatives,captions"]
    assert run(*flags) == 0
    assert {"data.mdb", "manifest.json", "plan.jsonl", "train_obj36-36.tsv"} <= set(disk.renamed)
    assert not disk.too_early and not disk.unsettled


def test_fetched_weights_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    disk = Disk(monkeypatch)
    with serving() as server:
        server.files["/w.pth"] = b"weights"
        path = fetch(f"{server.base}/w.pth", lambda line: None)
    assert disk.renamed == [os.path.basename(path)] and not disk.too_early


def test_a_disk_that_cannot_write_is_an_error_and_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        files.publish_bytes(str(tmp_path / "a"), [b"lost"])
    assert not list(tmp_path.iterdir())
    sync_folder(str(tmp_path))  # a network disk that refuses this for folders
