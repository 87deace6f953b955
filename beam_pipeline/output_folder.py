"""What stands in a run's output folder, for the commands that look at it afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from beam_pipeline.layout import Paths
from beam_pipeline.usage import UsageError
from region_features.records.plan import Plan, ShardKey, decode_plan
from region_features.records.stats import STATS_SUFFIX, ShardStats
from region_features.validation.record import Problem
from transforms import files

_SHARD_NAME = re.compile(r"(?P<set>.+)-(?P<number>\d{5})-of-(?P<of>\d{5})\.tfrecord", re.DOTALL)
T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """One shard file that is there: name, set, number, size in bytes, and its stats, None where they cannot be read."""

    name: str
    set_name: str
    number: int
    num_bytes: int
    stats: ShardStats | None


@dataclass(frozen=True)
class OutputFolder:
    """What is there.

    Attributes:
        paths: where the run's files stand.
        manifest: manifest.json, None where there is none that can be read.
        plan: plan.jsonl likewise.
        shards: shards by file name, in order of set and number.
        stray_stats: stats files without a shard.
        problems: files that cannot be read.
    """

    paths: Paths
    manifest: Mapping[str, Any] | None
    plan: Plan | None
    shards: Mapping[str, Shard]
    stray_stats: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def stats(self) -> dict[ShardKey, ShardStats]:
        """The stats of the planned shards that are there."""
        found = {}
        for key in self.plan.shards if self.plan else ():
            shard = self.shards.get(key.filename)
            if shard and shard.stats:
                found[key] = shard.stats
        return found


def open_output(output: str) -> OutputFolder:
    """Read the small files of an output folder.

    Raises:
        UsageError: there is no such folder, or no run wrote to it.
    """
    paths = Paths(output)
    try:
        top, present = files.list_folder(output), files.list_folder(paths.shards)
    except Exception as error:  # Google's client has its own kinds of errors
        raise UsageError(f"{output}: expected a folder that can be read, got: {error}") from error
    names = sorted(filter(_SHARD_NAME.fullmatch, present))
    if not names and "plan.jsonl" not in top and "manifest.json" not in top:
        raise UsageError(
            f"{output}: expected the --output of a run (manifest.json, plan.jsonl or tfrecord/*.tfrecord), found none; "
            "check the path"
        )
    problems: list[Problem] = []
    stats = _read_stats(paths, [name for name in names if name + STATS_SUFFIX in present], problems)
    shards = {}
    for name in names:
        parts = _SHARD_NAME.fullmatch(name)
        assert parts is not None
        shards[name] = Shard(name, parts["set"], int(parts["number"]), present[name], stats.get(name))
    return OutputFolder(
        paths=paths,
        manifest=_read(paths.manifest, "manifest", _parse_manifest, problems) if "manifest.json" in top else None,
        plan=_read(paths.plan, "plan", decode_plan, problems) if "plan.jsonl" in top else None,
        shards=shards,
        stray_stats=tuple(
            name
            for name in sorted(present)
            if name.endswith(STATS_SUFFIX)
            and _SHARD_NAME.fullmatch(name.removesuffix(STATS_SUFFIX))
            and name.removesuffix(STATS_SUFFIX) not in present
        ),
        problems=tuple(problems),
    )


def _read_stats(paths: Paths, names: list[str], problems: list[Problem]) -> dict[str, ShardStats]:
    where = [files.join(paths.shards, name + STATS_SUFFIX) for name in names]
    found = {}
    for name, path, data in zip(names, where, files.read_many(where), strict=True):
        try:
            stats = ShardStats.from_json(data, path)
            if stats.shard != name:
                raise ValueError(f"{path}: expected the stats of {name}, got those of {stats.shard!r}")
            found[name] = stats
        except ValueError as error:
            problems.append(Problem("stats", str(error)))
    return found


def _read(path: str, kind: str, parse: Callable[[bytes, str], T], problems: list[Problem]) -> T | None:
    try:
        return parse(files.read_bytes(path), path)
    except (ValueError, OSError) as error:
        problems.append(Problem(kind, str(error)))
        return None


def _parse_manifest(data: bytes, path: str) -> Mapping[str, Any]:
    try:
        manifest = json.loads(data)
        counts, found = manifest["counts"], manifest["files"]
        shaped = all(isinstance(counts[name], int) for name in ("in", "written", "failed")) and all(
            isinstance(found[name], dict) for name in ("tfrecord", "annotations", "lmdb")
        )
        if not shaped or not isinstance(manifest["sets"], dict) or "status" not in manifest:
            raise TypeError("a field of another type")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a run's manifest, got something else ({error!r})") from error
    return manifest
