"""RunFiles: what stands beside the shards of a run, read by the caller's file system."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from region_features.records.stats import ShardStats


@dataclass(frozen=True)
class RunFiles:
    """How to read what a report tells beside the records.

    Attributes:
        describe: returns what the manifest says of the run's input: `inputs`, `settings`, `versions` and so on, and
            `reason` where the run failed.
        read_stats: path of a shard -> its stats.
        published_at: path of a shard -> when it was written, in seconds since 1970; None where that is not known.
        uri_of: path of a shard, img_id -> the image, None where the plan does not say it.
        read_file: URI -> the content; OSError where it cannot be read.
    """

    describe: Callable[[], Mapping[str, Any]]
    read_stats: Callable[[str], ShardStats]
    published_at: Callable[[str], float | None]
    uri_of: Callable[[str, str], str | None]
    read_file: Callable[[str], bytes]
