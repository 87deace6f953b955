"""The graph, and the run around it."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from beam_pipeline.commit import commit, delete_temporaries
from beam_pipeline.dataflow.errors import GO_ON, JobError
from beam_pipeline.defects import is_defect
from beam_pipeline.exports import CAPTIONS
from beam_pipeline.flags.options import parse_args
from beam_pipeline.flags.worker_paths import workers_of
from beam_pipeline.output_lock import lock_output
from beam_pipeline.preflight.disk_room import describe_full_disk, room_notes
from beam_pipeline.preflight.dry_run import describe_dry_run
from beam_pipeline.preflight.export_checks import check_packages
from beam_pipeline.preflight.job import Job, check, check_here
from beam_pipeline.preflight.work_done import count_work, describe_work, next_steps
from beam_pipeline.process import INTERRUPTED, TERMINATED, Stopped, Terminated, end
from beam_pipeline.progress.console import console, note, run_spoken
from beam_pipeline.progress.summary import describe_run
from beam_pipeline.runner import Run, interrupted_message, new_run, watch
from beam_pipeline.usage import UsageError, one_line, printable
from region_features.records.audit import Audit
from region_features.records.prepared_image import Prepare
from transforms import files
from transforms.annotations import WriteAnnotationFiles
from transforms.beam_private import ModelHandler, as_in_a_script
from transforms.copied_shards import CopyShards
from transforms.detection import RegionModelHandler, detect_regions, images_a_batch, preprocessing
from transforms.exports import BuildExports, ExportRequest
from transforms.images import LoadImages
from transforms.imports import ImportRecords
from transforms.input_files import PinnedFile
from transforms.local_copies import keep_copies
from transforms.manifest import ANNOTATIONS_FOLDER, AuditShards, ManifestEntry, WriteManifest
from transforms.shard_inputs import ReadShardInputs
from transforms.shards import WriteShards


def build(pipeline: beam.Pipeline, job: Job, handler: ModelHandler, prepare_image: Prepare | None = None) -> None:
    """Compose the whole graph on `pipeline`; pixels and features never leave the bundle of their shard.

    Args:
        pipeline: where the graph goes.
        job: the checked run.
        handler: returns a RegionRecord or an ImageFailure for each example that `prepare_image` makes.
        prepare_image: the handler's preprocessing, run in the reader threads; None for that of the job's network.
    """
    config, layout, inputs = job.config, job.layout, job.inputs
    captions = inputs.captions.file if inputs.captions else None
    # One hint on all three: steps with different hints do not share a machine, and pixels would be shuffled.
    gpu = {"accelerator": config.accelerator} if config.accelerator else {}
    published = []
    if job.work.copies:
        published.append(
            pipeline | "CopyShards" >> CopyShards(layout.inputs, layout.shards, job.plan.settings)  # shard name
        )
    if job.work.to_make:
        shards = pipeline | "ReadShardInputs" >> ReadShardInputs(layout.inputs)  # (ShardKey, [CaptionedImage])
        if config.imports:
            results = shards | "ImportRecords" >> ImportRecords()  # (ImageItem, RegionRecord | ImageFailure)
        else:
            batch_size = partial(images_a_batch, config.batch_size, config.device)
            prepare_image = prepare_image or preprocessing(inputs.detector, config.device)
            load = LoadImages(
                layout.shards, prepare_image, config.pixel_limit, batch_size, config.exif, config.decode_memory
            )
            results = (
                shards
                | "LoadImages" >> load.with_resource_hints(**gpu)  # [(ImageItem, Example)]
                | "DetectRegions" >> detect_regions(handler).with_resource_hints(**gpu)  # (ImageItem, Result)
            )
        write = WriteShards(layout.shards, job.plan.settings).with_resource_hints(**gpu)
        published.append(results | "WriteShards" >> write)  # shard name
    plan_uri = layout.plan if job.plan.shards else None
    all_published = published | "Published" >> beam.Flatten(pipeline=pipeline)
    audit = all_published | "AuditShards" >> AuditShards(
        plan_uri, layout.shards, layout.provenance, config.failure_threshold
    )  # Audit
    annotations = (
        audit
        | "CaptionsFile" >> beam.FlatMap(after_shards, [captions] if captions and CAPTIONS in job.outputs else [])
        | "WriteAnnotationFiles" >> WriteAnnotationFiles(layout.annotations, inputs.test1k_ids)  # (name, digest)
        | "AnnotationEntry" >> beam.Map(annotation_entry)  # ManifestEntry
    )
    request = ExportRequest(job.exports, layout.output, layout.shards, captions, job.plan.settings, layout.provenance)
    exports = audit | "BuildExports" >> BuildExports(request)  # ManifestEntry
    entries = (annotations, exports) | "Entries" >> beam.Flatten()
    _ = audit | "WriteManifest" >> WriteManifest(entries, layout.provenance, layout.output)


def after_shards(_: Audit, captions: list[PinnedFile]) -> list[PinnedFile]:
    """Return the captions file; a million captions take half a minute, for which the first image must not wait."""
    return captions


def annotation_entry(written: tuple[str, dict[str, Any]]) -> ManifestEntry:
    """Describe an annotation file, its name with bytes and SHA-256, for the manifest."""
    name, digest = written
    return ManifestEntry("annotations", name, {"bytes": digest["bytes"]}, {f"{ANNOTATIONS_FOLDER}/{name}": digest})


def main(argv: Sequence[str], handler: ModelHandler | None = None, prepare_image: Prepare | None = None) -> int:
    """Run the program.

    Args:
        argv: the command line without the program's name.
        handler: what detects, in place of the network.
        prepare_image: the handler's preprocessing.

    Returns:
        Exit status: 0 done, 1 the run failed, 2 wrong use.
    """
    silence_beam()
    try:
        config, beam_flags = parse_args(argv)

        @keep_copies(note)
        def run() -> int:
            if config.dry_run:
                print("\n".join(map(printable, describe_dry_run(check(config)).splitlines())))
                return 0
            run = new_run(beam_flags)
            with lock_output(config.output):
                return run_job(run, check(config, workers_of(beam_flags)), handler, prepare_image)

        return run_spoken("beam_pipeline", config.quiet, config.log_json, run)
    except Stopped as stopped:
        end(stopped.status, str(stopped))
    except UsageError as error:
        print(f"beam_pipeline: {one_line(error)}", file=sys.stderr)
        return 2


def silence_beam() -> None:
    """Beam logs tracebacks before re-raising; we print one line instead."""
    logging.getLogger().setLevel(logging.CRITICAL)


def run_job(run: Run, job: Job, handler: ModelHandler | None = None, prepare_image: Prepare | None = None) -> int:
    """Commit a checked run and carry it out; the caller holds the lock of its output.

    Args:
        run: an empty pipeline.
        job: what `check` returned.
        handler: what detects, in place of the network.
        prepare_image: the handler's preprocessing.

    Returns:
        Exit status: 0 done, 1 the run failed.

    Raises:
        UsageError: this machine cannot do it, or the output folder cannot be written.
        Stopped: by Ctrl-C or SIGTERM; the pipeline's thread may still be at work, so the process should end.
    """
    job = replace(job, work=job.work.without_damaged(note))
    if handler is None and run.runner is None and job.work.to_make and not job.config.imports:
        check_here(job.config)
    if run.runner is None:
        check_packages(job.exports)
    for text in (*job.notes, *room_notes(job)):
        note(text)
    commit(job)
    try:
        with as_in_a_script():
            return _run(run, job, handler, prepare_image)
    except KeyboardInterrupt:
        raise Stopped(INTERRUPTED, interrupted_message(run, job)) from None
    except Terminated:
        raise Stopped(TERMINATED, interrupted_message(run, job, "terminated")) from None


def _run(run: Run, job: Job, handler: ModelHandler | None, prepare_image: Prepare | None) -> int:
    """Run a job that is checked and committed; print the summary, or why it failed."""
    config = job.config
    # What a worker reads later must be what was checked here.
    weights = PinnedFile(config.weights or "", job.plan.settings.get("weights_sha256") or "")
    handler = handler or RegionModelHandler(
        weights, config.device, config.selection, job.inputs.detector, config.precision, config.model_copies
    )
    build(run.pipeline, job, handler, prepare_image)
    fail = partial(console().fail, "beam_pipeline")
    try:
        rate = watch(run, job)
        if rate is None:
            return 0
    except Exception as error:
        if is_defect(error):
            traceback.print_exc()
        remedy = error.remedy if isinstance(error, JobError) else GO_ON
        fail(f"the run failed: {describe_full_disk(error, job) or one_line(error)}; {remedy}")
        return 1
    if not FileSystems.exists(job.layout.manifest):
        fail(f"the runner ended well but left no {job.layout.manifest}; see its log")
        return 1
    delete_temporaries(job)
    manifest = json.loads(files.read_bytes(job.layout.manifest))
    work, seconds = count_work(manifest, job.done), console().seconds
    console().event("result", output=job.layout.output, **work._asdict(), images_per_second=round(rate, 3))
    line = describe_work(work, config, seconds, rate)
    console().summarize([line, *describe_run(manifest, job.layout).splitlines(), *next_steps(manifest, job)])
    if manifest["reason"]:
        fail(manifest["reason"])
        return 1
    return 0
