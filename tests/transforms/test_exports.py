"""The machinery around every export: what is built, where it is published, when it is left alone."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from region_features.exports.lmdb import LmdbExport
from region_features.exports.tsv import TsvExport
from region_features.records.audit import Audit
from region_features.records.build_note import BuildNote
from tests.samples.buckets import BucketFileSystem
from tests.samples.exports import build
from tests.samples.lmdbs import digest_of, make_job
from transforms import files, metrics
from transforms.exports import BuildExports, ExportRequest, export_jobs
from transforms.manifest import ManifestEntry

NOTE = BuildNote("digest", {"form": "a"}, {"data": 3}, {"records": 1}, {"data": "ab"})


def audit_of(job: Any) -> Audit:
    shards = {name: tuple(os.path.basename(path) for path in paths) for name, paths in job.shards.items()}
    published = {name: {"bytes": 1, "sha256": name} for names in shards.values() for name in names}
    return Audit({}, published, {}, shards, (), None)


def request_of(job: Any, *exports: Any) -> ExportRequest:
    return ExportRequest(exports, job.output, job.output, None, {"min_boxes": 1, "max_boxes": 2})


def test_a_note_is_current_for_the_same_shards_settings_and_files_only() -> None:
    assert NOTE.is_current("digest", {"form": "a"}, {"data": 3, "more": 9})
    assert not NOTE.is_current("other", {"form": "a"}, {"data": 3})
    assert not NOTE.is_current("digest", {"form": "b"}, {"data": 3})
    assert not NOTE.is_current("digest", {"form": "a"}, {"data": 4})
    assert not NOTE.is_current("digest", {"form": "a"}, {})


def test_a_note_comes_back_as_it_was() -> None:
    assert BuildNote.from_json(NOTE.to_json(), "note") == NOTE


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"{", NOTE.to_json()[:-9], NOTE.to_json().replace(b'"digest"', b"7")]
)
def test_a_damaged_note_is_named_with_a_remedy(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^out/note: expected the note of .*build it again"):
        BuildNote.from_json(data, "out/note")


def test_every_target_of_every_export_is_listed_with_the_digest_of_its_shards(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    audit = audit_of(job)
    jobs = list(export_jobs(audit, request_of(job, LmdbExport(), TsvExport())))
    assert [each.target.name for each in jobs] == ["trainval_feat.lmdb", "train_obj1-2.tsv", "valid_obj1-2.tsv"]
    assert jobs[0].shards == job.shards
    digests = [each.source_digest for each in jobs]
    changed = dataclasses.replace(audit, shards={**audit.shards, "val2014-1.tfrecord": {"sha256": "other"}})
    after = [each.source_digest for each in export_jobs(changed, request_of(job, LmdbExport(), TsvExport()))]
    assert (after[0] != digests[0], after[1] == digests[1], after[2] != digests[2]) == (True, True, True)


def test_nothing_is_built_from_a_failed_run(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    failed = dataclasses.replace(audit_of(job), error="too many failures")
    assert list(export_jobs(failed, request_of(job, LmdbExport()))) == []


def test_the_transform_builds_each_target_and_counts_its_records(tmp_path: Path) -> None:
    metrics.reset_local_counts()
    job = make_job(tmp_path)
    with beam.Pipeline() as pipeline:
        audits = pipeline | beam.Create([audit_of(job)], reshuffle=False)
        entries = audits | BuildExports(request_of(job, LmdbExport()))
        names = entries | "Names" >> beam.Map(_name_and_records)
        assert_that(names, equal_to([("lmdb", "trainval_feat.lmdb", 10)]))
    assert metrics.local_counts() == {"lmdb_records_written": 10}


def _name_and_records(entry: ManifestEntry) -> tuple[str, str, int]:
    return entry.section, entry.name, entry.row["records"]


def test_shards_and_output_may_be_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BucketFileSystem, "folder", tmp_path)
    local = make_job(tmp_path / "in")
    remote_shards = {
        name: tuple(f"bucket://in/{Path(path).name}" for path in paths) for name, paths in local.shards.items()
    }
    job = dataclasses.replace(local, output="bucket://out", shards=remote_shards)
    target = tmp_path / "out" / job.target.folder
    target.mkdir(parents=True)
    (target / ".tmp-0-data.mdb").write_text("left by a killed upload")
    first = build(job)
    build(local)
    assert sorted(os.listdir(target)) == ["data.mdb", "source.json"]
    assert digest_of(target) == digest_of(local.folder)
    before = (target / "data.mdb").stat().st_ino
    assert build(job) == first and (target / "data.mdb").stat().st_ino == before
    build(dataclasses.replace(job, source_digest="d2"))
    assert (target / "data.mdb").stat().st_ino != before


def test_a_build_deletes_what_killed_builds_left_beside_it(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    Path(job.folder).mkdir(parents=True)
    for name in (*job.target.files, job.target.note):
        Path(job.folder, f".tmp-0-{name}").write_text("unfinished")
    build(job)
    assert sorted(os.listdir(job.folder)) == ["data.mdb", "source.json"]


def test_a_broken_upload_is_not_taken_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BucketFileSystem, "folder", tmp_path)
    job = dataclasses.replace(make_job(tmp_path / "in"), output="bucket://out")
    target = tmp_path / "out" / job.target.folder
    build(job)
    before = (target / "data.mdb").stat().st_ino

    def broken(*_: Any) -> None:
        raise OSError("the network is gone")

    with monkeypatch.context() as patch:
        patch.setattr(BucketFileSystem, "rename", broken)
        with pytest.raises(OSError, match="the network is gone"):
            build(dataclasses.replace(job, source_digest="d2"))
    build(job)
    assert (target / "data.mdb").stat().st_ino != before
    assert sorted(os.listdir(target)) == ["data.mdb", "source.json"]


def test_a_build_that_stops_between_two_files_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path)
    build(job)

    def stops(local: str, path: str) -> int:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(files, "publish_file", stops)
        with pytest.raises(OSError, match="no space"):
            build(dataclasses.replace(job, source_digest="d2"))
    assert not os.path.exists(os.path.join(job.folder, job.target.note))
    assert build(job)["records"] == 10
