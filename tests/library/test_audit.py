"""Every id of a plan is accounted for, and failures are counted against the threshold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from region_features.records.audit import Audit, audit_shards, excess_failures
from region_features.records.failure import Failure
from region_features.records.plan import Plan
from tests.samples.audits import failure_of, plan_of, stats_of


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
        "the commonest reason (2 of 4), in stage decode: empty (0.jpg for one)"
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
