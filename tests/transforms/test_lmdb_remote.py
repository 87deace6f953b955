from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from tests.samples.buckets import BucketFileSystem
from tests.samples.lmdbs import digest_of, make_job
from transforms.lmdb import LmdbJob, build_lmdb


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
