"""Every id accounted for, failures counted against the threshold, the manifest the same each time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline  # pytest collects what is called Test
from apache_beam.testing.util import assert_that, equal_to

from region_features.records.audit import Audit, audit_shards
from region_features.records.failure import Failure
from region_features.records.plan import Plan
from region_features.records.stats import STATS_SUFFIX
from tests.samples.audits import plan_of, stats_of
from tests.samples.plans import encode_plan
from transforms import files
from transforms.manifest import (
    AuditShards,
    ManifestEntry,
    Provenance,
    WriteManifest,
    build_manifest,
    encode_failures,
    publish_manifest,
)


def test_failures_are_json_lines_whatever_they_hold(tmp_path: Path) -> None:
    plan = plan_of({"photos": 3})
    audit = audit_shards(plan, stats_of(plan, {"photos_1": 'quo"te, käse, \u2028, new\nline'}), 1.0)
    damaged = Failure("coco.json", "\ud83d", "captions", "half a character")
    lines = encode_failures(audit, [damaged]).decode().split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == [
        {
            "uri": "photos/photos_1.jpg",
            "img_id": "photos_1",
            "stage": "decode",
            "reason": 'quo"te, käse, \u2028, new\nline',
        },
        {"uri": "coco.json", "img_id": "\ud83d", "stage": "captions", "reason": "half a character"},
    ]
    assert "käse" in lines[0]


FIXED: dict[str, Any] = {"inputs": {"images": ["photos"]}, "settings": {"min_boxes": 36}, "versions": {"python": "3"}}


def test_the_manifest_sums_the_sets() -> None:
    plan = plan_of({"train2014": 4, "val2014": 3}, 2)
    audit = audit_shards(plan, stats_of(plan, {"val2014_0": "x"}), 0.5)
    entries = [
        ManifestEntry("lmdb", "trainval_feat.lmdb", {"records": 6}, {"x/data.mdb": {"bytes": 9}}),
        ManifestEntry("annotations", "b.jsonl", {"bytes": 2}, {}),
        ManifestEntry("annotations", "a.jsonl", {"bytes": 1}, {}),
    ]
    manifest = build_manifest(audit, FIXED, entries, {"plan.jsonl": {"bytes": 7}})
    assert manifest["status"] == "done" and manifest["reason"] is None
    assert manifest["counts"] == {"in": 7, "written": 6, "failed": 1, "computed": 6, "reused": 0}
    assert list(manifest["files"]["annotations"]) == ["a.jsonl", "b.jsonl"]
    assert manifest["files"]["lmdb"] == {"trainval_feat.lmdb": {"records": 6, "paths": ["x/data.mdb"]}}
    assert manifest["digests"]["x/data.mdb"] == {"bytes": 9} and manifest["digests"]["plan.jsonl"] == {"bytes": 7}
    shards = [name for name in manifest["digests"] if name.startswith("tfrecord/")]
    assert len(shards) == 8 and sum(name.endswith(".stats.json") for name in shards) == 4
    assert len(manifest["files"]["tfrecord"]) == 4
    assert {name: manifest[name] for name in FIXED} == FIXED
    assert build_manifest(replace(audit, error="why"), FIXED, [], {})["status"] == "failed"
    assert build_manifest(replace(audit, error="why"), FIXED, [], {})["reason"] == "why"


def write_stats(folder: Path, plan: Plan, failing: dict[str, str]) -> None:
    for key, stats in stats_of(plan, failing).items():
        files.publish_bytes(str(folder / key.filename), [bytes(stats.num_bytes)])
        files.publish_bytes(str(folder / f"{key.filename}{STATS_SUFFIX}"), [stats.to_json()])


def run_last_steps(tmp_path: Path, threshold: float, lost: Sequence[Failure] = ()) -> bytes:
    plan_uri, output = str(tmp_path / "out" / "plan.jsonl"), str(tmp_path / "out")
    damaged = Failure("coco.json", "", "captions", "images[3]: missing field 'split'")
    provenance_uri = str(tmp_path / "provenance.json")
    files.publish_bytes(provenance_uri, [Provenance(FIXED, [damaged, *lost]).to_json()])
    with Pipeline() as pipeline:
        published = pipeline | "Published" >> beam.Create(["a", "b"])
        audits = published | AuditShards(plan_uri, str(tmp_path / "tfrecord"), provenance_uri, threshold)
        entries = pipeline | "Entries" >> beam.Create(
            [
                ManifestEntry("annotations", "train_ann.jsonl", {"bytes": 5}, {}),
                ManifestEntry("lmdb", "trainval_feat.lmdb", {"records": 6}, {}),
            ]
        )
        paths = audits | WriteManifest(entries, provenance_uri, output)
        assert_that(paths, equal_to([f"{output}/manifest.json"]))
    return (tmp_path / "out" / "manifest.json").read_bytes()


def test_the_last_steps_read_the_folder_and_write_the_same_manifest_again(tmp_path: Path) -> None:
    plan = plan_of({"train2014": 4, "val2014": 3}, 2)
    files.publish_bytes(str(tmp_path / "out" / "plan.jsonl"), [encode_plan(plan)])
    write_stats(tmp_path / "tfrecord", plan, {"val2014_1": "käse"})
    data = run_last_steps(tmp_path, 0.5)
    manifest = json.loads(data)
    assert manifest["status"] == "done"
    assert manifest["counts"] == {"in": 7, "written": 6, "failed": 1, "computed": 6, "reused": 0}
    assert manifest["files"]["annotations"] == {"train_ann.jsonl": {"bytes": 5, "paths": []}}
    assert manifest["files"]["lmdb"] == {"trainval_feat.lmdb": {"records": 6, "paths": []}}
    lines = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").open()]
    assert [(line["stage"], line["img_id"]) for line in lines] == [("decode", "val2014_1"), ("captions", "")]
    assert run_last_steps(tmp_path, 0.5) == data

    torn = Failure("old.tsv", "", "import", "old.tsv, line 9: expected 13 columns, got 2")
    mended = Failure("old.tsv#line=3", "val2014_0", "import", "old.tsv, line 3: torn; a later row is whole")
    assert json.loads(run_last_steps(tmp_path, 0.25, [torn, mended]))["status"] == "done"
    failed = json.loads(run_last_steps(tmp_path, 0.24, [torn, mended]))
    assert failed["status"] == "failed" and "2 of 8 images failed" in failed["reason"]
    assert len((tmp_path / "out" / "failures.jsonl").read_bytes().splitlines()) == 4

    next((tmp_path / "tfrecord").glob("train2014-00001*.tfrecord")).unlink()
    failed = json.loads(run_last_steps(tmp_path, 0.5))
    assert failed["status"] == "failed" and "2 of 7 images are neither written nor failed" in failed["reason"]


def test_a_run_without_images_has_a_manifest_too(tmp_path: Path) -> None:
    provenance_uri = str(tmp_path / "provenance.json")
    files.publish_bytes(provenance_uri, [Provenance({}).to_json()])
    with Pipeline() as pipeline:
        audits = pipeline | beam.Create([], reshuffle=False) | AuditShards(None, str(tmp_path), provenance_uri, 0.0)
        assert_that(audits, equal_to([Audit({}, {}, {}, {}, (), None)]))


def test_entries_of_an_earlier_manifest_are_kept_while_their_shards_are_the_same(tmp_path: Path) -> None:
    plan = plan_of({"train2014": 4, "val2014": 3}, 2)
    audit = audit_shards(plan, stats_of(plan), 0.0)
    current = {"sets": ["val2014"], "source_digest": audit.source_digest(["val2014"])}
    kept = [
        ManifestEntry("tsv", "valid.tsv", current, {"valid.tsv": {"bytes": 1}}),
        ManifestEntry("tsv", "stale.tsv", {**current, "source_digest": "other"}, {}),
        ManifestEntry("tsv", "gone.tsv", {"sets": ["photos"], "source_digest": ""}, {}),
        ManifestEntry("annotations", "train_ann.jsonl", {"bytes": 5}, {}),
    ]
    files.publish_bytes(str(tmp_path / "plan.jsonl"), [encode_plan(plan)])
    files.publish_bytes(str(tmp_path / "side.json"), [Provenance(FIXED, [], kept).to_json()])
    list(publish_manifest(None, audit, [], str(tmp_path / "side.json"), str(tmp_path)))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert list(manifest["files"]["tsv"]) == ["valid.tsv"] and list(manifest["files"]["annotations"])
    assert manifest["digests"]["valid.tsv"] == {"bytes": 1}


def test_the_manifests_own_digest_stands_beside_it(tmp_path: Path) -> None:
    files.publish_bytes(str(tmp_path / "side.json"), [Provenance(FIXED).to_json()])
    list(publish_manifest(None, Audit({}, {}, {}, {}, (), None), [], str(tmp_path / "side.json"), str(tmp_path)))
    line = (tmp_path / "manifest.json.sha256").read_text()
    assert line == f"{hashlib.sha256((tmp_path / 'manifest.json').read_bytes()).hexdigest()}  manifest.json\n"
