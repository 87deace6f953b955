"""Progress of a run on a runner that reports no counters while it works, as Flink and Spark do: its whole shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from beam_pipeline.preflight.job import Job
from region_features.records.stats import STATS_SUFFIX, ShardStats
from transforms import files
from transforms.shards import IMAGES_FAILED, IMAGES_WRITTEN


class ShardCounts:
    """Counts the images of the shards that are published after this object was made.

    Args:
        job: the run.
    """

    def __init__(self, job: Job) -> None:
        self._folder = job.layout.shards
        self._awaited = {key.filename + STATS_SUFFIX for key in job.plan.shards} - self._present()
        self._counts = Counter[str]()

    def _present(self) -> set[str]:
        try:
            return set(files.list_folder(self._folder))
        except OSError:  # the next look may find them
            return set()

    def counts(self) -> Mapping[str, int]:
        """Look for shards that are new; return how many images they hold, and how many of theirs failed."""
        for name in self._present() & self._awaited:
            path = files.join(self._folder, name)
            try:
                stats = ShardStats.from_json(files.read_bytes(path), path)
            except (OSError, ValueError):  # a display must not end a run
                continue
            self._awaited.remove(name)
            self._counts[IMAGES_WRITTEN] += len(stats.ids)
            self._counts[IMAGES_FAILED] += len(stats.failures)
        return dict(self._counts)
