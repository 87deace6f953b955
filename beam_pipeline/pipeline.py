"""The graph, and the run around it."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from beam_pipeline.exports import lmdb_jobs, negatives_extras, negatives_jobs, tsv_extra, tsv_jobs, wanted_of
from beam_pipeline.options import parse_args
from beam_pipeline.preflight import Job, check_here, finish, prepare, start
from beam_pipeline.runner import interrupted_message, is_defect, new_run, watch
from beam_pipeline.usage import UsageError
from transforms import files
from transforms.annotations import JoinAnnotations, WriteAnnotationFiles, read_captions
from transforms.detection import RegionModelHandler, detect_regions, images_a_batch, preprocessing
from transforms.images import LoadImages, Prepare, read_plan
from transforms.beam_private import ModelHandler
from transforms.legacy_import import ImportRecords
from transforms.lmdb import BuildLmdb
from transforms.manifest import AuditShards, WriteManifest, describe
from transforms.negatives import BuildNegatives
from transforms.shards import WriteShards
from transforms.tsv import BuildTsv
from transforms.weights_cache import pinned


def build(pipeline: beam.Pipeline, job: Job, handler: ModelHandler, prepare_image: Prepare | None = None) -> None:
    """Compose the whole graph on `pipeline`; pixels and features never leave the bundle of their shard.

    Args:
        pipeline: where the graph goes.
        job: the checked run.
        handler: gives a RegionRecord or an ImageFailure for each example that `prepare_image` makes.
        prepare_image: the handler's preprocessing, run in the reader threads; None for that of the job's network.
    """
    config, paths, modes = job.config, job.paths, job.modes
    prepare_image = prepare_image or preprocessing(modes.detector, config.device)
    published = pipeline | "NoShardsToDo" >> beam.Create([])
    if job.todo:
        shards = (
            pipeline
            | "Plan" >> beam.Create([paths.plan])
            | "ReadPlan" >> beam.FlatMap(read_plan, job.todo)  # (img_id, (ShardKey, ImageRef))
            | "JoinAnnotations" >> JoinAnnotations(job.captions, modes.boxes)  # (ShardKey, [CaptionedImage])
        )
        if config.imports:
            results = shards | "ImportRecords" >> ImportRecords()  # (ImageItem, RegionRecord | ImageFailure)
        else:
            batch_size = partial(images_a_batch, config.batch_size, config.device)
            load = LoadImages(prepare_image, config.pixel_limit, batch_size, modes.exif)
            results = (
                shards
                | "LoadImages" >> load  # [(ImageItem, Example)]
                | "DetectRegions" >> detect_regions(handler)  # (ImageItem, RegionRecord | ImageFailure)
            )
        published = results | "WriteShards" >> WriteShards(paths.shards, job.plan.settings)  # shard name
    plan_uri = paths.plan if job.plan.shards else None
    audit = published | "AuditShards" >> AuditShards(plan_uri, paths.shards, paths.inputs, config.failure_threshold)
    annotations = (
        pipeline
        | "CaptionsFile" >> beam.Create([job.captions] if "captions" in job.outputs else [])
        | "WriteAnnotationFiles" >> WriteAnnotationFiles(paths.annotations, job.test1k_ids)  # (name, bytes)
    )
    wanted = wanted_of(job)
    lmdbs = (
        audit
        | "ListLmdbs" >> beam.FlatMap(lmdb_jobs, wanted)  # LmdbJob
        | "BuildLmdb" >> BuildLmdb()  # LmdbResult
    )
    tsvs = (
        audit
        | "ListTsvs" >> beam.FlatMap(tsv_jobs, wanted)  # TsvJob
        | "BuildTsv" >> BuildTsv()  # TsvResult
        | "TsvExtra" >> beam.Map(tsv_extra)  # Extra
    )
    negatives = (
        audit
        | "ListNegatives" >> beam.FlatMap(negatives_jobs, wanted)  # NegativesJob
        | "BuildNegatives" >> BuildNegatives(read_captions)  # NegativesResult
        | "NegativesExtras" >> beam.FlatMap(negatives_extras)  # Extra
    )
    extras = (tsvs, negatives) | "Extras" >> beam.Flatten()
    _ = audit | "WriteManifest" >> WriteManifest(annotations, lmdbs, paths.inputs, paths.output, extras)


def main(argv: Sequence[str], handler: ModelHandler | None = None, prepare_image: Prepare | None = None) -> int:
    """Run the program.

    Args:
        argv: the command line without the program's name.
        handler: what detects, in place of the network.
        prepare_image: the handler's preprocessing.

    Returns:
        Exit status: 0 done, 1 the run failed, 2 wrong use.
    """
    # Beam logs the stack of every error that it then raises, and that is told here.
    logging.getLogger().setLevel(logging.CRITICAL)
    try:
        config, beam_flags = parse_args(argv)
        run = new_run(beam_flags)
        job = prepare(config)
        if handler is None and run.runner is None and job.todo and not config.imports:
            check_here(config)
        for note in job.notes:
            print(f"note: {note}", file=sys.stderr)
        start(job)
    except UsageError as error:
        print(f"beam_pipeline: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    # Whatever a worker fetches later has to be what was checked here.
    weights = pinned(config.weights or "", job.plan.settings.get("weights_sha256"))
    handler = handler or RegionModelHandler(
        weights, config.device, config.boxes, job.modes.detector, config.precision, config.model_copies
    )
    build(run.pipeline, job, handler, prepare_image)
    try:
        watch(run, job)
    except KeyboardInterrupt:
        print(interrupted_message(run, job), file=sys.stderr, flush=True)
        # At once: the runner's threads may be deep in the network, and a killed run loses nothing but its open shard.
        os._exit(130)
    except Exception as error:
        if is_defect(error):
            traceback.print_exc()
        print(f"beam_pipeline: the run failed: {error}; run the same command again to go on", file=sys.stderr)
        return 1
    if not FileSystems.exists(job.paths.manifest):
        print(f"beam_pipeline: the runner ended well but left no {job.paths.manifest}; see its log", file=sys.stderr)
        return 1
    finish(job)
    manifest = json.loads(files.read_bytes(job.paths.manifest))
    print(describe(manifest, config.output, job.paths.features, job.paths.lmdbs))
    if manifest["reason"]:
        print(f"beam_pipeline: {manifest['reason']}", file=sys.stderr)
        return 1
    return 0
