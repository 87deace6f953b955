"""What a report reads beside the shards: stats, provenance, the plan, the images themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from region_features.records.plan import Plan, ShardKey
from region_features.records.stats import STATS_SUFFIX, ShardStats
from region_features.report.run_files import RunFiles
from transforms import files
from transforms.manifest import PLAN, Provenance
from transforms.plans import open_plan
from transforms.remote_listing import match_files


def read_stats(path: str) -> ShardStats:
    """Read the stats of a shard; raises as `ShardStats.from_json`."""
    return ShardStats.from_json(files.read_bytes(path + STATS_SUFFIX), path + STATS_SUFFIX)


def run_files(output: str, provenance: str, reason: str | None, shards: Iterable[str]) -> RunFiles:
    """Return how to read what stands beside the shards of a run.

    Args:
        output: the run's output folder.
        provenance: path of the file of a Provenance.
        reason: why the run failed, None where it did not.
        shards: their paths.
    """
    folder = _RunFolder(output, list(shards))

    def describe() -> Mapping[str, Any]:
        return {**Provenance.read(provenance).described, "reason": reason}

    return RunFiles(describe, read_stats, folder.published_at, folder.uri_of, read_image_file)


def read_image_file(uri: str) -> bytes:
    """Read an image, or a member of a zip archive; OSError where it cannot be read."""
    try:
        return files.read_bytes(uri)
    except OSError:
        raise
    except Exception as error:  # remote file systems raise their own classes
        raise OSError(f"{type(error).__name__}: {error}") from error


class _RunFolder:
    """The plan and the times of the shards, read when they are first asked for."""

    def __init__(self, output: str, shards: list[str]) -> None:
        self._output, self._shards = output, shards

    @cached_property
    def _plan(self) -> Plan:
        return open_plan(files.join(self._output, PLAN))

    @cached_property
    def _keys(self) -> dict[str, ShardKey]:
        return {key.filename: key for key in self._plan.shards}

    @cached_property
    def _times(self) -> dict[str, float]:
        folders = {path[: -len(name)] for path in self._shards if (name := path.rpartition("/")[2])}
        return {
            entry.path: entry.last_updated_in_seconds
            for folder in sorted(folders)
            for entry in match_files(folder + "*")
            if entry.last_updated_in_seconds
        }

    def published_at(self, path: str) -> float | None:
        return self._times.get(path)

    def uri_of(self, path: str, img_id: str) -> str | None:
        key = self._keys.get(path.rpartition("/")[2])
        uris = (ref.uri for ref in self._plan.shards[key] if ref.img_id == img_id) if key else iter(())
        return next(uris, None)
