"""The audit of a run: every image of the plan is written or failed, or the run fails."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from region_features.records.failure import Failure
from region_features.records.health_sample import NO_SAMPLE, HealthSample, add_samples
from region_features.records.plan import Plan, ShardKey
from region_features.records.stats import STATS_SUFFIX, ShardStats

# Of a set: images planned, written and failed; records computed and taken over of those written; whole shards.
_COUNTS = ("in", "written", "failed", "computed", "reused", "shards")


@dataclass(frozen=True)
class Audit:
    """What became of every image of the plan."""

    sets: Mapping[str, Mapping[str, int]]  # set name -> its _COUNTS
    shards: Mapping[str, Mapping[str, Any]]  # file name -> `bytes` and `sha256` of each published shard
    stats: Mapping[str, Mapping[str, Any]]  # file name -> `bytes` and `sha256` of each shard's stats file
    shards_of_set: Mapping[str, tuple[str, ...]]  # set name -> file names of its planned shards, in order
    failures: tuple[Failure, ...]  # the images that gave no record
    error: str | None  # why the run failed, None where it did not
    health: HealthSample = NO_SAMPLE  # of records of all published shards

    def source_digest(self, sets: Iterable[str]) -> str:
        """Return a hex digest of the content of some sets' shards."""
        digest = hashlib.sha256()
        for name in (shard for set_name in sets for shard in self.shards_of_set[set_name]):
            digest.update(f"{name} {self.shards[name]['sha256'] if name in self.shards else ''}\n".encode())
        return digest.hexdigest()


def audit_shards(
    plan: Plan, stats: Mapping[ShardKey, ShardStats], threshold: float, dropped_rows: Sequence[Failure] = ()
) -> Audit:
    """Compare the plan with the stats of the published shards.

    Args:
        threshold: largest allowed share of failed images.
        dropped_rows: imported rows that were dropped, and are no image of the plan.
    """
    sets: dict[str, dict[str, int]] = {}
    shards_of_set: dict[str, tuple[str, ...]] = {}
    failures: list[Failure] = []
    missing: list[str] = []
    overfull: list[str] = []
    for key, refs in plan.shards.items():
        counts = sets.setdefault(key.set_name, {name: 0 for name in _COUNTS})
        counts["in"] += key.num_images
        shards_of_set[key.set_name] = (*shards_of_set.get(key.set_name, ()), key.filename)
        shard = stats.get(key)
        if shard is None:
            missing.extend(ref.uri for ref in refs)
            continue
        accounted = {*shard.ids, *(failure.img_id for failure in shard.failures)}
        missing.extend(ref.uri for ref in refs if ref.img_id not in accounted)
        if len(shard.ids) + len(shard.failures) != key.num_images:
            overfull.append(key.filename)
        counts["written"] += len(shard.ids)
        counts["failed"] += len(shard.failures)
        counts["computed"] += len(shard.ids) - shard.reused
        counts["reused"] += shard.reused
        counts["shards"] += 1
        failures.extend(shard.failures)
    error: str | None
    if missing:
        error = (
            f"{len(missing)} of {plan.num_images} images are neither written nor failed, {missing[0]} for one; "
            "run the same command again to do their shards"
        )
    elif overfull:
        error = (
            f"the stats of {overfull[0]} hold more images than the shard was made of; "
            "delete that file to have the shard redone"
        )
    else:
        error = excess_failures([*failures, *dropped_rows], plan.num_images + len(dropped_rows), threshold)
    sizes = {shard.shard: {"bytes": shard.num_bytes, "sha256": shard.sha256} for shard in stats.values()}
    health = add_samples(stats[key].health for key in plan.shards if key in stats)
    stats_digests = {}
    for shard in stats.values():
        data = shard.to_json()
        stats_digests[shard.shard + STATS_SUFFIX] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return Audit(sets, sizes, stats_digests, shards_of_set, tuple(failures), error, health)


def excess_failures(failures: Sequence[Failure], total: int, threshold: float) -> str | None:
    """Say why a run counts as failed; None while the share of failures in `total` images is within the threshold."""
    # A quotient equals the decimal that the user wrote; threshold * total does not (0.29 * 100 < 29).
    if not failures or len(failures) / total <= threshold:
        return None
    (stage, reason), times = Counter((failure.stage, failure.reason) for failure in failures).most_common(1)[0]
    example = next(failure.uri for failure in failures if (failure.stage, failure.reason) == (stage, reason))
    return (
        f"{len(failures)} of {total} images failed, more than --failure_threshold {threshold:g} allows: mend "
        f"them, or allow more; the commonest reason ({times} of {len(failures)}), in stage {stage}: {reason} "
        f"({example} for one)"
    )
