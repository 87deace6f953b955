"""Before any work starts: everything that can be wrong is found, and the plan is written."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from beam_pipeline.extraction import ExtractionOptions, read_modes
from beam_pipeline.layout import Paths, delete_outputs
from beam_pipeline.options import DEFAULT_OUTPUTS, Config
from beam_pipeline.provenance import describe_run, read_provenance
from beam_pipeline.usage import UsageError
from region_features.formats.karpathy import check_test1k_ids, parse_dataset, parse_test1k_ids
from region_features.records.failure import Failure
from region_features.records.item import ImageCaptions
from region_features.records.plan import (
    Plan,
    assign_shards,
    decode_plan,
    describe_change,
    encode_plan,
    find_key_clashes,
)
from region_features.records.settings import FLOAT32
from transforms import files
from transforms.detection import WeightsFacts, check_device, check_weights
from transforms.legacy_import import list_lmdb_records, list_tsv_rows
from transforms.listing import corpus_folders, list_images
from transforms.manifest import encode_inputs
from transforms.published import read_published

# Raised whenever the same input and settings give other bytes.
RECORD_VERSION = 1
_NETWORK_PACKAGES = ("torch", "torchvision", "detectron2", "cv2", "PIL")


@dataclass(frozen=True)
class Job:
    """A checked run, ready to be built into a graph.

    Attributes:
        config: what the user asked for.
        paths: where it goes.
        outputs: what to make.
        plan: every image by shard.
        todo: file names of the shards that are still to be made.
        done: images in the shards that are there already.
        captions, test1k_ids: files, None where there are none.
        failures: damaged rows of the captions and boxes files, and of imported ones.
        fixed: what the manifest says whatever happens.
        notes: what the user should hear.
        modes: what was asked for of boxes, network and rotation.
    """

    config: Config
    paths: Paths
    outputs: tuple[str, ...]
    plan: Plan
    todo: frozenset[str]
    done: int
    captions: str | None
    test1k_ids: str | None
    failures: tuple[Failure, ...]
    fixed: Mapping[str, Any]
    notes: tuple[str, ...]
    modes: ExtractionOptions


def prepare(config: Config) -> Job:
    """Check the input, fix the plan, find what is already done.

    Raises:
        UsageError: wrong use, in one line.
    """
    try:
        return _prepare(config)
    except UsageError:
        raise
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error


def _prepare(config: Config) -> Job:
    paths = Paths(config.output)
    captions, test1k_ids = _caption_sources(config)
    outputs = config.outputs or tuple(name for name in DEFAULT_OUTPUTS if captions or name != "captions")
    for name in ("captions", "negatives"):
        if name in outputs and not captions:
            raise UsageError(f"--outputs {name}: expected --captions FILE beside --images; name dataset_coco.json")
    entries, failures = _read_captions(captions, test1k_ids)
    weights, modes = None, ExtractionOptions()
    lost: tuple[Failure, ...] = ()
    if "tfrecord" in outputs:
        modes = read_modes(config, _read)
        plan, weights, notes, lost = _plan_images(config, captions, modes)
        if config.overwrite:
            delete_outputs(paths)
        _check_against_earlier(paths, plan)
    else:
        plan, notes = _earlier_plan(paths) or Plan({}, {}), ()
    published = read_published(paths.shards, plan)
    if config.retry_failed:
        published = {key: stats for key, stats in published.items() if not stats.failures}
    todo = frozenset(key.filename for key in plan.shards if key not in published)
    if "tfrecord" not in outputs and (todo or not plan.shards):
        if set(outputs) != {"captions"}:
            raise UsageError(
                f"--outputs {','.join(outputs)}: expected whole shards in {paths.shards}, but {len(todo) or 'all'} are "
                "missing or stale; add tfrecord to --outputs"
            )
        plan, published, todo = Plan({}, {}), {}, frozenset()
    fixed = describe_run(config, captions, entries, failures, plan, weights, modes, notes, lost)
    if "tfrecord" not in outputs and plan.shards:
        told, lost = read_provenance(paths, plan, captions)
        fixed |= told
    return Job(
        config=config,
        paths=paths,
        outputs=outputs,
        plan=plan,
        todo=todo,
        done=sum(key.num_images for key in published),
        captions=captions,
        test1k_ids=test1k_ids,
        failures=(*failures, *modes.failures, *lost),
        fixed=fixed,
        notes=notes,
        modes=modes,
    )


def check_here(config: Config) -> None:
    """Refuse what the network cannot do on this machine; other machines refuse for themselves.

    Raises:
        UsageError: the network's packages are missing, there is no such device, or it does not have the precision.
    """
    missing = [name for name in _NETWORK_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"a local run needs {', '.join(missing)}: expected the network's packages, found none of that name; "
            "install them with `make setup` of a clone, or name another --runner"
        )
    try:
        check_device(config.device, config.precision)
    except ValueError as error:
        raise UsageError(str(error)) from error


def start(job: Job) -> None:
    """Publish the plan: from here on a rerun resumes. An earlier manifest goes, since it is no account of this run.

    Raises:
        UsageError: the output folder cannot be written.
    """
    try:
        files.delete_files([job.paths.manifest])
        files.publish_bytes(job.paths.inputs, [encode_inputs(job.fixed, job.failures)])
        if "tfrecord" in job.outputs:
            files.publish_bytes(job.paths.plan, [encode_plan(job.plan)])
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"--output {job.paths.output}: expected a folder to write to, got: {reason}") from error


def finish(job: Job) -> None:
    """Remove what killed attempts left behind."""
    for folder in (job.paths.output, job.paths.shards, job.paths.annotations):
        names = [name for name in files.list_folder(folder) if name.startswith(files.TEMP_PREFIX)]
        files.delete_files(files.join(folder, name) for name in names)


def _caption_sources(config: Config) -> tuple[str | None, str | None]:
    captions, test1k_ids = config.captions, config.test1k_ids
    if config.corpus:
        present = files.list_folder(config.corpus)
        if captions is None and "dataset_coco.json" not in present:
            raise UsageError(
                f"--corpus {config.corpus}: expected dataset_coco.json in it, found none; "
                "name it with --captions, or use --images"
            )
        captions = captions or files.join(config.corpus, "dataset_coco.json")
        if test1k_ids is None and "test1k_ids.txt" in present:
            test1k_ids = files.join(config.corpus, "test1k_ids.txt")
    if test1k_ids and not captions:
        raise UsageError("--test1k_ids: expected --captions FILE beside it; name dataset_coco.json")
    return captions, test1k_ids


def _read_captions(captions: str | None, test1k_ids: str | None) -> tuple[list[ImageCaptions], list[Failure]]:
    if captions is None:
        return [], []
    entries, failures = parse_dataset(_read(captions, "--captions"), captions)
    if test1k_ids:
        check_test1k_ids(parse_test1k_ids(_read(test1k_ids, "--test1k_ids"), test1k_ids), entries, test1k_ids)
    return entries, failures


def _read(path: str, flag: str) -> bytes:
    return _or_usage_error(files.read_bytes, path, flag)


def _or_usage_error(action: Callable[[str], Any], path: str, flag: str) -> Any:
    try:
        return action(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{flag} {path}: expected a readable file, got: {reason}; check the path") from error


def _settings(
    config: Config, captions: str | None, weights: WeightsFacts | None, modes: ExtractionOptions
) -> dict[str, Any]:
    """Everything that decides the records' bytes."""
    return {
        "weights_sha256": weights.sha256 if weights else None,
        "captions_sha256": files.sha256_of(captions) if captions else None,
        "min_boxes": config.boxes.minimum,
        "max_boxes": config.boxes.maximum,
        "conf_threshold": config.boxes.threshold,
        "pixel_limit": config.pixel_limit,
        "record_version": RECORD_VERSION,
        **({} if config.precision == FLOAT32 else {"precision": config.precision}),
        **modes.settings(),
        **({"imported": True} if config.imports else {}),
    }


def _plan_images(
    config: Config, captions: str | None, modes: ExtractionOptions
) -> tuple[Plan, WeightsFacts | None, tuple[str, ...], tuple[Failure, ...]]:
    """The plan of the images that the user names, what detects in them, what the user should hear, and lost rows."""
    if config.imports:
        listing = list_tsv_rows(config.import_tsv) if config.import_tsv else list_lmdb_records(str(config.import_lmdb))
    else:
        listing = list_images(corpus_folders(config.corpus) if config.corpus else config.images)
    clashes = find_key_clashes(listing.refs)
    if clashes:
        key, first, second = clashes[0]
        raise UsageError(
            f"{first} and {second} would share the LMDB key {key!r} ({len(clashes)} such pairs in all); "
            "rename one, or put them in folders of their own"
        )
    check = partial(check_weights, config=modes.detector)
    weights = _or_usage_error(check, config.weights, "--weights") if config.weights else None
    notes = (*listing.notes, *modes.notes({ref.img_id for ref in listing.refs}))
    if weights and not weights.attributes:
        notes = (*notes, f"{config.weights} has no attribute head: attrs, attrs_id and attrs_conf are zeros")
    plan = Plan(_settings(config, captions, weights, modes), assign_shards(listing.refs, config.num_shards))
    return plan, weights, notes, listing.failures


def _earlier_plan(paths: Paths) -> Plan | None:
    if "plan.jsonl" not in files.list_folder(paths.output):
        return None
    return decode_plan(files.read_bytes(paths.plan), paths.plan)


def _check_against_earlier(paths: Paths, plan: Plan) -> None:
    earlier = _earlier_plan(paths)
    change = describe_change(earlier, plan) if earlier else None
    if change:
        raise UsageError(
            f"--output {paths.output} holds a run with other settings: {change}; "
            "choose another --output, or start afresh with --overwrite"
        )
