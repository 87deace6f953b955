"""What a report says of a run by its stats files: counts, failures by reason, rate over time, shards, health."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from region_features.health.verdict import describe_health
from region_features.names import ClassNames, visual_genome
from region_features.records.failure import Failure
from region_features.records.health_sample import NO_SAMPLE, HealthSample, add_samples
from region_features.records.stats import ShardStats

# Failures that are shown of a reason, and reasons.
EXAMPLES, REASONS = 6, 12
_MOST_SPANS, _FEWEST_SPANS = 60, 3


def names_of_run(described: Mapping[str, Any]) -> ClassNames | None:
    """Return Visual Genome's names, or those that the manifest has of another network; None if it has none."""
    if "detector_config_sha256" not in described.get("settings", {}):
        return visual_genome()
    names = described.get("detector_config", {}).get("object_names")
    return ClassNames(tuple((str(name),) for name in names)) if names else None


class FailureReason(NamedTuple):
    """Images that failed for one reason: how many, and the first of them."""

    stage: str
    reason: str
    images: int
    examples: list[Failure]


class ShardRow(NamedTuple):
    """A shard: its file name, records, bytes, SHA-256."""

    name: str
    images: int
    num_bytes: int
    sha256: str


class Rate(NamedTuple):
    """Images a second in spans of time.

    Attributes:
        edges: of the spans, in seconds from the first.
        images_a_second: in each.
        began: seconds since 1970.
    """

    edges: NDArray[np.float64]
    images_a_second: NDArray[np.float64]
    began: float


@dataclass
class RunAccount:
    """Adds up the stats of shards, which come in order."""

    sets: dict[str, Counter[str]] = field(default_factory=dict)  # set -> `written`, `failed`, `reused`, `shards`
    shards: list[ShardRow] = field(default_factory=list)
    health: HealthSample = NO_SAMPLE
    _reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    _examples: dict[tuple[str, str], list[Failure]] = field(default_factory=dict)
    _times: list[tuple[float, int]] = field(default_factory=list)  # when a shard was published, images computed

    def add(self, set_name: str, stats: ShardStats, published_at: float | None) -> None:
        """Add the stats of one shard."""
        written, failed = len(stats.ids), len(stats.failures)
        counts = {"written": written, "failed": failed, "reused": stats.reused, "shards": 1}
        self.sets.setdefault(set_name, Counter()).update(counts)
        self.shards.append(ShardRow(stats.shard, written, stats.num_bytes, stats.sha256))
        self.health = add_samples((self.health, stats.health))
        for failure in stats.failures:
            key = failure.stage, failure.reason
            self._reasons[key] += 1
            if len(self._examples.setdefault(key, [])) < EXAMPLES:
                self._examples[key].append(failure)
        if published_at is not None and stats.reused < written:
            self._times.append((published_at, written - stats.reused))

    @property
    def counts(self) -> Counter[str]:
        """The counts of all sets together."""
        return sum(self.sets.values(), Counter())

    def reasons(self) -> list[FailureReason]:
        """Return the commonest reasons of failures, at most REASONS."""
        return [FailureReason(*key, count, self._examples[key]) for key, count in self._reasons.most_common(REASONS)]

    @property
    def num_reasons(self) -> int:
        """How many different reasons there are."""
        return len(self._reasons)

    def describe_health(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the health as the manifest has it; None without records that have boxes."""
        return describe_health(self.health, settings) if self.health.images else None

    def rate(self) -> Rate | None:
        """Return the rate between the first shard's end and the last's; None if too few shards tell their time.

        The images of the first shard are left out: when the work on it began is not known.
        """
        times = sorted(self._times)
        spans = min(_MOST_SPANS, len(times) // 2)
        if spans < _FEWEST_SPANS or times[-1][0] - times[0][0] <= 0:
            return None
        began = times[0][0]
        seconds, images = np.array(times[1:]).T
        counts, edges = np.histogram(seconds - began, spans, (0, times[-1][0] - began), weights=images)
        return Rate(edges, counts / np.diff(edges), began)
