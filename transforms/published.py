"""The shards that already stand in an output folder."""

from __future__ import annotations

from region_features.records.plan import Plan, ShardKey, input_digest
from region_features.records.stats import STATS_SUFFIX, ShardStats
from transforms import files


def read_published(folder: str, plan: Plan) -> dict[ShardKey, ShardStats]:
    """The shards of the plan that are published, whole and made of the plan's images and settings."""
    present = files.list_folder(folder)
    keys = [key for key in plan.shards if key.filename in present and key.filename + STATS_SUFFIX in present]
    paths = [files.join(folder, key.filename + STATS_SUFFIX) for key in keys]
    published = {}
    for key, path, data in zip(keys, paths, files.read_many(paths), strict=True):
        stats = ShardStats.from_json(data, path)
        current = stats.settings == plan.settings and stats.inputs == input_digest(plan.shards[key])
        if current and stats.num_bytes == present[key.filename]:
            published[key] = stats
    return published
