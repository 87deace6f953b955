"""Every id accounted for, failures counted against the threshold, the manifest the same each time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline  # pytest collects what is called Test
from apache_beam.testing.util import assert_that, equal_to

from region_features.records.audit import Audit, audit_shards, excess_failures
from region_features.records.failure import Failure
from region_features.records.plan import ImageRef, Plan, ShardKey, input_digest
from region_features.records.stats import STATS_SUFFIX, ShardStats
from tests.samples.plans import assign_shards, encode_plan
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

SETS = ("test2015", "train2014", "val2014")


def plan_of(sets: dict[str, int], num_shards: int | None = None) -> Plan:
    refs = [
        ImageRef(name, f"{name}_{number}", f"{name}/{name}_{number}.jpg", 1)
        for name, count in sets.items()
        for number in range(count)
    ]
    return Plan({"min_boxes": 36}, assign_shards(refs, num_shards))


def failure_of(ref: ImageRef, reason: str = "the file is empty", stage: str = "decode") -> Failure:
    return Failure(ref.uri, ref.img_id, stage, reason)


def stats_of(plan: Plan, failing: dict[str, str] | None = None) -> dict[ShardKey, ShardStats]:
    """What a perfect run leaves, but for the ids in `failing`."""
    failing = failing or {}
    return {
        key: ShardStats(
            shard=key.filename,
            settings=plan.settings,
            inputs=input_digest(refs),
            ids=tuple(ref.img_id for ref in refs if ref.img_id not in failing),
            image_sha256={ref.img_id: "ab" for ref in refs},
            failures=tuple(failure_of(ref, failing[ref.img_id]) for ref in refs if ref.img_id in failing),
            reused=0,
            num_bytes=100 + key.number,
            sha256=f"sha of {key.filename}",
            crc32c="",
        )
        for key, refs in plan.shards.items()
    }


def test_a_perfect_run_accounts_for_every_image() -> None:
    plan = plan_of({"val2014": 5, "train2014": 7}, 2)
    audit = audit_shards(plan, stats_of(plan), 0.0)
    assert audit.error is None and audit.failures == ()
    assert audit.sets == {
        "train2014": {"in": 7, "written": 7, "failed": 0, "computed": 7, "reused": 0, "shards": 2},
        "val2014": {"in": 5, "written": 5, "failed": 0, "computed": 5, "reused": 0, "shards": 2},
    }
    assert audit.shards["val2014-00001-of-00002.tfrecord"] == {
        "bytes": 101,
        "sha256": "sha of val2014-00001-of-00002.tfrecord",
    }


def test_failures_come_in_shard_order_and_are_counted_by_set() -> None:
    plan = plan_of({"val2014": 3, "train2014": 3}, 2)
    audit = audit_shards(plan, stats_of(plan, {"val2014_1": "late", "train2014_2": "early"}), 1.0)
    assert [failure.img_id for failure in audit.failures] == ["train2014_2", "val2014_1"]
    assert [counts["failed"] for counts in audit.sets.values()] == [1, 1]
    for counts in audit.sets.values():
        assert counts["in"] == counts["written"] + counts["failed"]


def test_a_missing_shard_names_a_lost_image() -> None:
    plan = plan_of({"photos": 6}, 3)
    stats = stats_of(plan)
    del stats[list(plan.shards)[1]]
    audit = audit_shards(plan, stats, 1.0)
    assert audit.error is not None
    assert "2 of 6 images are neither written nor failed, photos/photos_2.jpg for one" in audit.error
    assert "run the same command again" in audit.error
    assert audit.sets["photos"] == {"in": 6, "written": 4, "failed": 0, "computed": 4, "reused": 0, "shards": 2}


def test_an_image_that_its_shard_forgot_is_named() -> None:
    plan = plan_of({"photos": 3})
    ((key, stats),) = stats_of(plan).items()
    audit = audit_shards(plan, {key: replace(stats, ids=stats.ids[:2])}, 1.0)
    assert audit.error is not None
    assert "1 of 3 images are neither written nor failed, photos/photos_2.jpg for one" in audit.error


def test_an_image_that_is_counted_twice_is_an_error() -> None:
    plan = plan_of({"photos": 3})
    ((key, stats),) = stats_of(plan).items()
    twice = [
        replace(stats, ids=(*stats.ids, stats.ids[0])),
        replace(stats, failures=(failure_of(plan.shards[key][0]),)),
        replace(stats, ids=(*stats.ids, "stranger")),
    ]
    for wrong in twice:
        audit = audit_shards(plan, {key: wrong}, 1.0)
        assert audit.error is not None and "photos-00000-of-00001.tfrecord hold more images" in audit.error


def test_lost_images_count_more_than_failed_ones() -> None:
    plan = plan_of({"photos": 4}, 2)
    first, second = stats_of(plan, {"photos_0": "x", "photos_1": "x"}).items()
    del second
    audit = audit_shards(plan, dict([first]), 0.0)
    assert audit.error is not None and "neither written nor failed" in audit.error


def failures(*reasons: str) -> list[Failure]:
    return [Failure(f"{index}.jpg", str(index), "decode", reason) for index, reason in enumerate(reasons)]


@pytest.mark.parametrize("total", [1, 3, 7, 22, 23, 26, 29, 49, 100, 113])
def test_an_equal_share_passes_and_one_more_does_not(total: int) -> None:
    for count in range(total):
        assert excess_failures(failures(*["x"] * count), total, count / total) is None
        assert excess_failures(failures(*["x"] * (count + 1)), total, count / total) is not None


def test_an_equal_share_passes_as_a_user_writes_it() -> None:
    for percent in range(101):
        assert (
            excess_failures(failures(*["x"] * percent), 100, float(f"0.{percent:02d}" if percent < 100 else "1"))
            is None
        )


def test_the_commonest_reason_is_named() -> None:
    told = excess_failures(failures("empty", "text", "empty", "gone"), 100, 0.03)
    assert told == (
        "4 of 100 images failed, more than --failure_threshold 0.03 allows: mend them, or allow more; "
        "the commonest reason (2 of 4), in stage decode: empty"
    )
    assert excess_failures([], 0, 0.0) is None
    assert excess_failures(failures("x"), 1, 1.0) is None


def test_the_threshold_is_of_all_sets_together() -> None:
    plan = plan_of({"a": 1, "b": 99})
    stats = stats_of(plan, {"a_0": "empty"})
    assert audit_shards(plan, stats, 0.01).error is None
    error = audit_shards(plan, stats, 0.009).error
    assert error is not None and error.startswith("1 of 100 images failed") and "empty" in error


def test_the_shards_of_each_set_are_listed_in_order() -> None:
    plan = plan_of({"val2014": 3, "photos": 1}, 2)
    assert audit_shards(plan, stats_of(plan), 0.0).shards_of_set == {
        "photos": ("photos-00000-of-00001.tfrecord",),
        "val2014": ("val2014-00000-of-00002.tfrecord", "val2014-00001-of-00002.tfrecord"),
    }


def test_a_source_digest_follows_the_shards_of_its_sets() -> None:
    plan = plan_of({"train2014": 4, "val2014": 3, "test2015": 2}, 2)
    stats = stats_of(plan)
    before = audit_shards(plan, stats, 0.0)
    trainval, test = ("train2014", "val2014"), ("test2015",)
    assert audit_shards(plan, stats_of(plan), 0.0).source_digest(trainval) == before.source_digest(trainval)
    key = next(key for key in stats if key.set_name == "val2014")
    stats[key] = replace(stats[key], sha256="other")
    after = audit_shards(plan, stats, 0.0)
    assert after.source_digest(trainval) != before.source_digest(trainval)
    assert after.source_digest(test) == before.source_digest(test)
    assert before.source_digest(test) != before.source_digest(trainval)


def test_an_empty_plan_has_nothing_to_account_for() -> None:
    assert audit_shards(Plan({}, {}), {}, 0.0) == Audit({}, {}, {}, {}, (), None)


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
