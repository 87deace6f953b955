"""Building one target of an export, and telling whether it was built or left alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from region_features.exports.base import Export, Sources
from transforms import files
from transforms.exports import ExportJob, build_export
from transforms.input_files import PinnedFile
from transforms.shards import read_shard


def ignore(_: str, __: int) -> None:
    """Take progress, and do nothing."""


def export_job(
    export: Export,
    output: str | Path,
    shards: Mapping[str, tuple[str, ...]],
    digest: str = "d",
    settings: Mapping[str, Any] | None = None,
    captions: PinnedFile | None = None,
) -> ExportJob:
    """The job of the only target that an export has for these sets."""
    (target,) = export.targets(list(shards), settings or {})
    return ExportJob(export, target, str(output), shards, captions, digest)


def build(job: ExportJob) -> Mapping[str, Any]:
    """Build a target; returns its row of the manifest."""
    return build_export(job, ignore).row


def stamps(job: ExportJob) -> dict[str, tuple[int, int]]:
    """Inode and time of the target's local files."""
    paths = [os.path.join(job.folder, name) for name in (*job.target.files, job.target.listing) if name]
    if job.target.contents:
        paths += [entry.path for entry in os.scandir(os.path.join(job.folder, job.target.contents))]
    states = {path: os.stat(path) for path in paths if os.path.exists(path)}
    return {path: (state.st_ino, state.st_mtime_ns) for path, state in states.items()}


def is_current(job: ExportJob) -> bool:
    """Whether a build leaves a local target as it is."""
    before = stamps(job)
    build(job)
    return stamps(job) == before


def sources_of(*shards: str) -> Sources:
    """Local shards of one set."""
    num_bytes = sum(len(files.read_bytes(path)) for path in shards)
    return Sources("out", {"photos": shards}, num_bytes, read_shard, lambda path: ())
