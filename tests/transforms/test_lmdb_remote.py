from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem

from tests.samples.lmdbs import digest_of, make_job
from transforms.lmdb import LmdbJob, build_lmdb


class BucketFileSystem(LocalFileSystem):
    """Stands in for a bucket: `bucket://NAME` is a local folder that only FileSystems knows."""

    folder = Path()

    @classmethod
    def scheme(cls) -> str:
        return "bucket"

    @classmethod
    def local(cls, path: str) -> str:
        return str(cls.folder / path.removeprefix("bucket://"))

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def _list(self, dir_or_prefix: str) -> Any:
        for path in Path(self.local(dir_or_prefix)).rglob("*"):
            yield FileMetadata(f"bucket://{path.relative_to(self.folder)}", path.stat().st_size)

    def _path_open(self, path: str, *arguments: Any, **options: Any) -> Any:
        return super()._path_open(self.local(path), *arguments, **options)

    def create(self, path: str, *arguments: Any, **options: Any) -> Any:
        os.makedirs(os.path.dirname(self.local(path)), exist_ok=True)
        return self._path_open(path, "wb", *arguments, **options)

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            os.rename(self.local(source), self.local(target))

    def exists(self, path: str) -> bool:
        return os.path.isfile(self.local(path))

    def size(self, path: str) -> int:
        return os.path.getsize(self.local(path))

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            os.remove(self.local(path))


def test_remote_shards_and_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BucketFileSystem, "folder", tmp_path)
    made = make_job(tmp_path / "in")
    shards = tuple(tuple(f"bucket://in/{Path(path).name}" for path in one) for one in made.shards)
    job = LmdbJob("trainval", "bucket://out/trainval_feat.lmdb", shards, "d1")
    target = tmp_path / "out" / "trainval_feat.lmdb"
    target.mkdir(parents=True)
    (target / ".tmp-0-data.mdb").write_text("left by a killed upload")
    first = build_lmdb(job)
    build_lmdb(made)
    assert sorted(os.listdir(target)) == ["data.mdb", "source.json"]
    assert digest_of(target) == digest_of(made.output)
    assert build_lmdb(job) == dataclasses.replace(first, skipped=True)
    assert not build_lmdb(dataclasses.replace(job, source_digest="d2")).skipped


def test_a_broken_upload_is_not_taken_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BucketFileSystem, "folder", tmp_path)
    job = dataclasses.replace(make_job(tmp_path / "in"), output="bucket://out/x")
    build_lmdb(job)

    def broken(*_: Any) -> None:
        raise OSError("the network is gone")

    with monkeypatch.context() as patch:
        patch.setattr(BucketFileSystem, "rename", broken)
        with pytest.raises(OSError, match="the network is gone"):
            build_lmdb(dataclasses.replace(job, source_digest="d2"))
    assert not build_lmdb(job).skipped
    assert sorted(os.listdir(tmp_path / "out" / "x")) == ["data.mdb", "source.json"]
    assert build_lmdb(job).skipped
