"""A folder where a run writes a file, or a file where it makes a folder: refused before anything is deleted or made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from beam_pipeline.layout import Layout
from beam_pipeline.usage import UsageError
from region_features.exports.base import Export
from region_features.records.coco import annotation_names
from region_features.records.plan import Plan
from region_features.records.stats import STATS_SUFFIX
from transforms import files
from transforms.target_files import target_folder, target_folders, target_paths


def refuse_taken_places(layout: Layout, plan: Plan, exports: Sequence[Export], outdated: Iterable[str]) -> None:
    """Refuse a local output in which one of the run's names is taken by something of another kind.

    Args:
        layout: where the run writes.
        plan: its shards.
        exports: what it builds.
        outdated: files that it deletes.

    Raises:
        UsageError: names the place.
    """
    if files.is_remote(layout.output):
        return
    sets = plan.set_names
    targets = [target for export in exports for target in export.targets(sets, plan.settings)]
    folders = {folder for target in targets for folder in target_folders(layout.output, target)}
    for path in sorted({layout.shards, layout.annotations, *folders}):
        if os.path.lexists(path) and not os.path.isdir(path):
            raise UsageError(f"--output {layout.output}: expected a folder or nothing at {path}, found a file; move it")
    written = (path for target in targets for path in target_paths(target_folder(layout.output, target), target))
    for paths in (_run_files(layout), _shard_files(layout, plan), written, outdated):
        for path in paths:
            if os.path.isdir(path):
                where = f"a file or nothing at {path}, found a folder"
                raise UsageError(f"--output {layout.output}: expected {where}; move it away, it is never deleted")


def _run_files(layout: Layout) -> Iterator[str]:
    yield from (layout.manifest, layout.manifest_digest, layout.failures, layout.plan, layout.provenance)
    yield from layout.inputs
    for name in annotation_names():
        yield files.join(layout.annotations, name)


def _shard_files(layout: Layout, plan: Plan) -> Iterator[str]:
    for key in plan.shards:
        for suffix in ("", STATS_SUFFIX):
            yield files.join(layout.shards, key.filename + suffix)
