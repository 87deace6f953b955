"""What stands in a run's output folder, for the commands that look at it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from beam_pipeline.exports import EXPORTS
from beam_pipeline.layout import Layout
from beam_pipeline.usage import UsageError
from region_features.records.coco import annotation_names
from region_features.records.json_text import parse_json
from region_features.records.plan import Plan, ShardKey, parse_shard_name
from region_features.records.stats import STATS_SUFFIX, ShardStats
from region_features.validation.record import Problem
from transforms import files
from transforms.manifest import COUNTS, MANIFEST, PLAN
from transforms.plans import open_plan
from transforms.target_files import target_folder, target_paths

T = TypeVar("T")


@dataclass(frozen=True)
class PublishedShard:
    """A shard file: name, set, number, size in bytes, and its stats, None where they cannot be read."""

    name: str
    set_name: str
    number: int
    num_bytes: int
    stats: ShardStats | None


@dataclass(frozen=True)
class OutputFolder:
    """The small files of an output folder, read.

    Attributes:
        layout: where the run's files stand.
        manifest: manifest.json, None where there is none that can be read.
        plan: plan.jsonl likewise.
        shards: shards by file name, in order of set and number.
        stray_stats: stats files without a shard.
        problems: files that cannot be read.
    """

    layout: Layout
    manifest: Mapping[str, Any] | None
    plan: Plan | None
    shards: Mapping[str, PublishedShard]
    stray_stats: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides the records' bytes, as the plan or else the manifest says; empty where neither is there."""
        return self.plan.settings if self.plan else (self.manifest or {}).get("settings", {})

    @property
    def stats(self) -> dict[ShardKey, ShardStats]:
        """The stats of the planned shards that are there."""
        stats = {}
        for key in self.plan.shards if self.plan else ():
            shard = self.shards.get(key.filename)
            if shard and shard.stats:
                stats[key] = shard.stats
        return stats


def open_output(output: str) -> OutputFolder:
    """Read the small files of an output folder.

    Raises:
        UsageError: there is no such folder, or no run wrote to it.
    """
    layout = Layout(output)
    try:
        top, sizes = files.list_folder(output), files.list_folder(layout.shards)
    except Exception as error:  # Google's client has its own kinds of errors
        raise UsageError(f"{output}: expected a folder that can be read, got: {error}") from error
    names = sorted(filter(parse_shard_name, sizes))
    if not names and PLAN not in top and MANIFEST not in top:
        raise UsageError(
            f"{output}: expected the --output of a run ({MANIFEST}, {PLAN} or tfrecord/*.tfrecord), found none; "
            "check the path"
        )
    problems: list[Problem] = []
    stats = _read_stats(layout, [name for name in names if name + STATS_SUFFIX in sizes], problems)
    shards = {}
    for name in names:
        parts = parse_shard_name(name)
        assert parts is not None
        shards[name] = PublishedShard(name, *parts[:2], sizes[name], stats.get(name))
    described = {name: name.removesuffix(STATS_SUFFIX) for name in sorted(sizes) if name.endswith(STATS_SUFFIX)}
    return OutputFolder(
        layout=layout,
        manifest=_read(layout.manifest, "manifest", _read_manifest, problems) if MANIFEST in top else None,
        plan=_read(layout.plan, "plan", open_plan, problems) if PLAN in top else None,
        shards=shards,
        stray_stats=tuple(name for name, shard in described.items() if parse_shard_name(shard) and shard not in sizes),
        problems=tuple(problems),
    )


def _read_stats(layout: Layout, names: list[str], problems: list[Problem]) -> dict[str, ShardStats]:
    paths = [files.join(layout.shards, name + STATS_SUFFIX) for name in names]
    stats_of = {}
    for name, path, data in zip(names, paths, files.read_many(paths), strict=True):
        try:
            stats = ShardStats.from_json(data, path)
            if stats.shard != name:
                raise ValueError(f"{path}: expected the stats of {name}, got those of {stats.shard!r}")
            stats_of[name] = stats
        except ValueError as error:
            problems.append(Problem("stats", str(error)))
    return stats_of


def _read(path: str, kind: str, read: Callable[[str], T], problems: list[Problem]) -> T | None:
    try:
        return read(path)
    except (ValueError, OSError) as error:
        problems.append(Problem(kind, str(error)))
        return None


def _read_manifest(path: str) -> Mapping[str, Any]:
    return parse_manifest(files.read_bytes(path), path)


def parse_manifest(data: bytes, path: str) -> Mapping[str, Any]:
    """Parse manifest.json; ValueError names `path` if it is something else."""
    try:
        manifest = parse_json(data)
        numbers = [manifest["counts"][name] for name in COUNTS]
        rows = [row for section in manifest["files"].values() for row in section.values()]
        sections = [manifest["files"], manifest["sets"], manifest["digests"], *manifest["files"].values(), *rows]
        if not all(isinstance(number, int) for number in numbers) or "status" not in manifest:
            raise TypeError("a field of another type")
        if not all(isinstance(section, dict) for section in sections) or "tfrecord" not in manifest["files"]:
            raise TypeError("a section of another type")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected a run's manifest, got something else ({error!r})") from error
    return manifest


def find_plan(layout: Layout) -> Plan | None:
    """Open the plan of a folder's run, None where there is none; raises as `open_plan`."""
    if PLAN not in files.list_folder(layout.output):
        return None
    return open_plan(layout.plan)


def outdated_files(layout: Layout) -> Iterator[str]:
    """List what an earlier run wrote, by name: nothing else is ever deleted."""
    yield from (layout.manifest, layout.manifest_digest, layout.failures)
    for name in files.list_folder(layout.shards):
        if parse_shard_name(name.removesuffix(STATS_SUFFIX)):
            yield files.join(layout.shards, name)
    for name in annotation_names():
        yield files.join(layout.annotations, name)
    try:
        plan = find_plan(layout) or Plan({}, {})
    except ValueError:
        plan = Plan({}, {})  # torn: exports of its sets stay, and are built anew where the new run has those sets
    sets = plan.set_names
    for export in (kind() for kind in EXPORTS):
        for target in export.targets(sets, plan.settings):
            yield from target_paths(target_folder(layout.output, target), target)
    # The plan goes last: until then a rerun knows what it is looking at.
    yield layout.plan
