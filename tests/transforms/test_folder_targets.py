"""Targets that are a folder of files: published whole, each file under a digest, deleted by their list alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from region_features.exports.base import Copy, Export, OnProgress, Sources, Target
from region_features.records.build_note import BuildNote
from tests.conftest import tree_bytes
from tests.samples.buckets import BucketFileSystem
from tests.samples.exports import build, export_job, is_current
from transforms import files
from transforms.exports import ExportJob, build_export
from transforms.target_files import target_paths


@dataclass(frozen=True)
class Letters(Export):
    """A file a letter of the flag, with the letter and an ending as its content."""

    letters: str = "abc"
    ending: str = "1"

    name = "letters"

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        for set_name in sets:
            yield Target(set_name, (set_name,), folder="letters", contents=set_name)

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, int]:
        for letter in self.letters:
            Path(folder, f"{letter}.txt").write_text(letter + self.ending)
        return {"letters": len(self.letters)}

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        return Copy()

    def describe(self, row: Mapping[str, Any]) -> str:
        return f"{row['letters']} letters"


def job_of(output: Path | str, letters: str = "abc", ending: str = "1") -> ExportJob:
    return export_job(Letters(letters, ending), output, {"photos": ()})


def contents(output: Path) -> dict[str, bytes]:
    return tree_bytes(output / "letters" / "photos")


def listed(output: Path) -> list[str]:
    lines = (output / "letters" / "photos.sha256").read_text().splitlines()
    return [line.split("/")[1] for line in lines]


def test_every_file_is_under_a_digest(tmp_path: Path) -> None:
    counted: list[tuple[str, int]] = []
    entry = build_export(job_of(tmp_path), lambda what, total: counted.append((what, total)))
    assert contents(tmp_path) == {"a.txt": b"a1", "b.txt": b"b1", "c.txt": b"c1"}
    listing = (tmp_path / "letters" / "photos.sha256").read_bytes()
    digests = [(f"{hashlib.sha256(f'{name}1'.encode()).hexdigest()}  photos/{name}.txt\n") for name in "abc"]
    assert listing.decode() == "".join(digests)
    assert entry.row["files"] == {"photos/": 6, "photos.sha256": len(listing)}
    assert sorted(entry.digests) == ["letters/photos.sha256", "letters/photos.source.json"]
    assert entry.digests["letters/photos.sha256"]["sha256"] == hashlib.sha256(listing).hexdigest()
    assert counted == [("files_published", 1), ("files_published", 2), ("files_published", 3)]
    assert sorted(os.listdir(tmp_path)) == ["letters"]


@pytest.mark.parametrize("name", ["photos/b.txt", "photos.sha256", "photos.source.json"])
def test_a_current_folder_is_left_alone_and_what_is_missing_builds_it_anew(name: str, tmp_path: Path) -> None:
    job = job_of(tmp_path)
    first = build(job)
    before = tree_bytes(tmp_path)
    assert is_current(job) and build(job) == first
    (tmp_path / "letters" / name).unlink()
    assert not is_current(job)
    assert tree_bytes(tmp_path) == before
    (tmp_path / "letters" / "photos" / "b.txt").write_text("another size")
    assert not is_current(job)
    assert tree_bytes(tmp_path) == before


def test_a_rebuild_deletes_what_is_no_longer_part_and_nothing_else(tmp_path: Path) -> None:
    build(job_of(tmp_path))
    mine = tmp_path / "letters" / "photos" / "mine.txt"
    mine.write_text("mine")
    build(job_of(tmp_path, "cd", "2"))
    assert contents(tmp_path) == {"c.txt": b"c2", "d.txt": b"d2", "mine.txt": b"mine"}
    assert listed(tmp_path) == ["c.txt", "d.txt"]
    build(job_of(tmp_path, ""))
    assert contents(tmp_path) == {"mine.txt": b"mine"} and listed(tmp_path) == []
    assert is_current(job_of(tmp_path, ""))


@pytest.mark.parametrize("killed_at", range(2))
def test_what_a_killed_build_published_goes_with_the_next_one(
    killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(job_of(tmp_path))
    publish = files.publish_file
    published: list[str] = []

    def stops(local: str, path: str) -> int:
        if len(published) == killed_at:
            raise OSError("no space")
        published.append(path)
        return publish(local, path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "publish_file", stops)
        with pytest.raises(OSError, match="no space"):
            build(job_of(tmp_path, "xyz"))
    assert not (tmp_path / "letters" / "photos.source.json").exists()
    assert contents(tmp_path).keys() <= set(listed(tmp_path))
    build(job_of(tmp_path, "bc"))
    assert sorted(contents(tmp_path)) == listed(tmp_path) == ["b.txt", "c.txt"]


def test_a_file_is_moved_not_copied_on_its_own_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_bytes = files.publish_bytes
    copied: list[str] = []

    def noted(path: str, chunks: Iterable[bytes]) -> int:
        copied.append(os.path.basename(path))
        return publish_bytes(path, chunks)

    monkeypatch.setattr(files, "publish_bytes", noted)
    build(job_of(tmp_path))
    assert copied == ["photos.sha256", "photos.source.json"]


def test_the_paths_to_delete_are_those_of_the_list(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    build(job)
    (tmp_path / "letters" / "photos" / "mine.txt").write_text("mine")
    paths = list(target_paths(job.folder, job.target))
    names = [os.path.relpath(path, job.folder) for path in paths]
    assert names == ["photos.source.json", "photos/a.txt", "photos/b.txt", "photos/c.txt", "photos.sha256"]
    files.delete_files(paths)
    assert list(tree_bytes(tmp_path)) == ["letters/photos/mine.txt"]


def test_a_foreign_list_deletes_nothing(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    build(job)
    victim = tmp_path / "victim"
    victim.write_text("stays")
    (tmp_path / "letters" / "photos.sha256").write_text(f"{'ab' * 32}  photos/../../victim\n")
    files.delete_files(target_paths(job.folder, job.target))
    build(replace(job, source_digest="d2"))
    assert victim.read_text() == "stays" and listed(tmp_path) == ["a.txt", "b.txt", "c.txt"]


def test_the_folder_may_be_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BucketFileSystem, "folder", tmp_path)
    (tmp_path / "out" / "letters" / "photos").mkdir(parents=True)
    (tmp_path / "out" / "letters" / "photos" / ".tmp-0-a.txt").write_text("left by a killed upload")
    first = build(job_of("bucket://out"))
    build(job_of(tmp_path / "local"))
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "local")
    before = (tmp_path / "out" / "letters" / "photos" / "a.txt").stat().st_ino
    assert build(job_of("bucket://out")) == first
    assert (tmp_path / "out" / "letters" / "photos" / "a.txt").stat().st_ino == before
    build(job_of("bucket://out", "ad"))
    assert contents(tmp_path / "out") == {"a.txt": b"a1", "d.txt": b"d1"} and listed(tmp_path / "out") == [
        "a.txt",
        "d.txt",
    ]
    job = job_of("bucket://out")
    files.delete_files(target_paths(job.folder, job.target))
    assert tree_bytes(tmp_path / "out") == {}
