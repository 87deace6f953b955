"""Exports built from published shards, wherever those and the output folder stand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import apache_beam as beam

from region_features.allocation import keep_freed_blocks
from region_features.exports.base import Export, OnProgress, Sources, Target
from region_features.records.audit import Audit
from region_features.records.build_note import BuildNote
from region_features.records.stats import STATS_SUFFIX
from transforms import files, metrics
from transforms.annotations import read_captions
from transforms.input_files import PinnedFile
from transforms.manifest import ManifestEntry
from transforms.run_files import read_stats, run_files
from transforms.scratch import scratch_folder
from transforms.shards import read_shard
from transforms.target_files import publish_target, target_folder, target_sizes
from transforms.tasks import Task, at_work


@dataclass(frozen=True)
class ExportRequest:
    """What to build once the shards are audited; small, for it travels in the graph.

    Attributes:
        exports: the formats.
        output: the run's output folder.
        shards: folder of the shards.
        captions: dataset_coco.json, None where there is none.
        settings: of the run's plan.
        provenance: path of the file of a Provenance, None where there is none.
    """

    exports: tuple[Export, ...]
    output: str
    shards: str
    captions: PinnedFile | None
    settings: Mapping[str, Any]
    provenance: str | None = None


@dataclass(frozen=True)
class ExportJob:
    """One target to build.

    Attributes:
        export: its format.
        target: which.
        output: the run's output folder.
        shards: set name -> paths of its shards, in order.
        captions: dataset_coco.json, None where the export needs none or there is none.
        source_digest: hex digest of the shards' content.
        provenance: path of the file of a Provenance, None where there is none.
        reason: why the run failed, None where it did not.
    """

    export: Export
    target: Target
    output: str
    shards: Mapping[str, tuple[str, ...]]
    captions: PinnedFile | None
    source_digest: str
    provenance: str | None = None
    reason: str | None = None

    @property
    def folder(self) -> str:
        """Where the target's files stand."""
        return target_folder(self.output, self.target)

    @property
    def shard_paths(self) -> tuple[str, ...]:
        """The shards of all sets."""
        return tuple(path for paths in self.shards.values() for path in paths)


def export_jobs(audit: Audit, request: ExportRequest) -> Iterator[ExportJob]:
    """List the targets to build; where the run failed only those that are built all the same."""
    for export in request.exports:
        if audit.error and not export.of_failed_runs:
            continue
        for target in export.targets(list(audit.shards_of_set), request.settings):
            shards = {
                set_name: tuple(
                    files.join(request.shards, name)
                    for name in audit.shards_of_set[set_name]
                    if name in audit.shards or not audit.error
                )
                for set_name in target.sets
            }
            captions = request.captions if export.needs_captions or export.uses_captions else None
            digest = audit.source_digest(target.sets)
            yield ExportJob(export, target, request.output, shards, captions, digest, request.provenance, audit.error)


def build_export(job: ExportJob, on_progress: OnProgress) -> ManifestEntry:
    """Build one target, or leave it as it is where it is current.

    A target's files appear when they are whole; its note, without which it counts as stale, is written last. Of two
    builds of one target at a time the later one deletes what the earlier one has begun, which then fails.

    Raises:
        ValueError: see `Export.build`.
        OSError: a shard is missing, or a file cannot be written; names it.
    """
    keep_freed_blocks()
    settings = job.export.settings()
    if job.captions:
        settings["captions_sha256"] = job.captions.sha256
    if not files.is_remote(job.folder) and os.path.exists(job.folder) and not os.path.isdir(job.folder):
        raise FileExistsError(f"{job.folder}: expected a folder or nothing there, got a file; move it away")
    note_path = files.join(job.folder, job.target.note)
    sizes = target_sizes(job.folder, job.target)
    note = _read_note(note_path) if job.target.note in sizes else None
    if not note or not note.is_current(job.source_digest, settings, sizes):
        with scratch_folder(job.output, f"{job.export.name}-{job.target.name}") as scratch:
            sources = open_sources(job)
            with at_work(f"building {job.export.name}, {job.target.name}", "B", sources.num_bytes) as task:
                counts = job.export.build(job.target, _counted_by(task, sources), scratch, on_progress)
            with at_work(f"publishing {job.export.name}, {job.target.name}"):
                published = publish_target(scratch, job.folder, job.target, on_progress)
        note = BuildNote(job.source_digest, settings, published.sizes, counts, published.sha256)
        files.publish_bytes(note_path, [note.to_json()])
    row = {
        **job.export.settings(),
        **note.counts,
        "sets": list(job.target.sets),
        "source_digest": job.source_digest,
        "files": dict(note.files),
    }
    digests = {name: {"bytes": note.files[name], "sha256": sha256} for name, sha256 in note.sha256.items()}
    digests[job.target.note] = files.digest_of_bytes(note.to_json())
    folder = f"{job.target.folder}/" if job.target.folder else ""
    entry_digests = {f"{folder}{name}": digest for name, digest in digests.items()}
    return ManifestEntry(job.export.name, job.target.name, row, entry_digests)


def _read_note(path: str) -> BuildNote | None:
    try:
        return BuildNote.from_json(files.read_bytes(path), path)
    except ValueError:
        return None  # torn or foreign: build again


def open_sources(job: ExportJob) -> Sources:
    """Return the shards of a job, to be read through Beam's file systems.

    Raises:
        FileNotFoundError: a shard is missing; names it.
    """
    num_bytes = 0
    for path in job.shard_paths:
        try:
            num_bytes += files.size_of(path)
        except FileNotFoundError as error:
            message = f"{job.target.name}: expected the shard {path}, got nothing; write it again"
            raise FileNotFoundError(message) from error
    captions = job.captions
    return Sources(
        output=job.folder,
        shards=job.shards,
        num_bytes=num_bytes,
        read_shard=_read_or_disown,
        read_ids=_read_ids,
        read_captions=partial(read_captions, captions) if captions else None,
        run=run_files(job.output, job.provenance, job.reason, job.shard_paths) if job.provenance else None,
    )


def _counted_by(task: Task, sources: Sources) -> Sources:
    """Return the same sources; what is read of the shards counts as the task's progress."""

    def read(path: str) -> Iterator[bytes]:
        for data in sources.read_shard(path):
            task.advance(len(data))
            yield data

    return replace(sources, read_shard=read)


def _read_or_disown(path: str) -> Iterator[bytes]:
    """Read a shard; delete the stats of a damaged one, which vouch for it, so that a rerun makes it again."""
    try:
        yield from read_shard(path)
    except ValueError:
        files.delete_files([path + STATS_SUFFIX])
        raise


def _read_ids(path: str) -> tuple[str, ...]:
    return read_stats(path).ids


def _build_counted(job: ExportJob) -> ManifestEntry:
    counted: dict[str, int] = {}

    def count(what: str, total: int) -> None:
        metrics.count(f"{job.export.name}_{what}", total - counted.get(what, 0))
        counted[what] = total

    return build_export(job, count)


@dataclass
class BuildExports(beam.PTransform):
    """An Audit -> a ManifestEntry a target, once it is built; counts `lmdb_records_written` and its like.

    Attributes:
        request: what to build.
    """

    request: ExportRequest

    def expand(self, audits: beam.PCollection) -> beam.PCollection:
        """Spread the targets over the workers."""
        return (
            audits
            | "ListTargets" >> beam.FlatMap(export_jobs, self.request)  # ExportJob
            | "SpreadTargets" >> beam.Reshuffle()  # ExportJob
            | "BuildTarget" >> beam.Map(_build_counted)  # ManifestEntry
        )
