"""Plans, and what the shards of a run tell of their images."""

from __future__ import annotations

from region_features.records.failure import Failure
from region_features.records.plan import ImageRef, Plan, ShardKey, input_digest
from region_features.records.stats import ShardStats
from tests.samples.plans import assign_shards

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
