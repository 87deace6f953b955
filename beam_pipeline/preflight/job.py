"""Before any work starts: everything that can be wrong is found, and nothing written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from beam_pipeline.exports import CAPTIONS, DEFAULT_OUTPUTS, SHARDS, requested_exports
from beam_pipeline.flags.config import Config
from beam_pipeline.flags.worker_paths import Workers
from beam_pipeline.full_disk import TemporaryDiskFull, describe_full_temporary, is_full_disk
from beam_pipeline.layout import Layout
from beam_pipeline.preflight.environment import how_to_install, missing_modules
from beam_pipeline.preflight.export_checks import check_exports, check_records
from beam_pipeline.preflight.imported import refuse_lacking
from beam_pipeline.preflight.inputs import Inputs, read_captions, read_inputs
from beam_pipeline.preflight.output_folder import find_plan, outdated_files
from beam_pipeline.preflight.provenance import describe_run, kept_entries, read_previous
from beam_pipeline.preflight.reuse import Earlier, ShardWork, find_copies, read_earlier
from beam_pipeline.preflight.taken_places import refuse_taken_places
from beam_pipeline.progress.console import note
from beam_pipeline.progress.run_progress import IMAGES, show_count
from beam_pipeline.usage import UsageError
from region_features.exports.base import Export
from region_features.records.coco import CAPTIONS_FILE
from region_features.records.failure import Failure
from region_features.records.plan import (
    Plan,
    ShardKey,
    describe_change,
)
from region_features.records.stats import ShardStats
from transforms import files
from transforms.detection import check_device
from transforms.manifest import Provenance
from transforms.plans import choose_cut, make_plan, refs_of
from transforms.published import Published, find_damaged, find_unchanged, read_published


class AnotherRunError(UsageError):
    """The output holds a run of other settings or images.

    Attributes:
        change: the first difference.
        settings: of the run that was to be made.
    """

    def __init__(self, message: str, change: str, settings: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.change, self.settings = change, settings


class Done(NamedTuple):
    """The shards that are there: how many, their images, the records in them, those taken over, and their bytes."""

    shards: int
    images: int
    written: int
    reused: int
    num_bytes: int


@dataclass(frozen=True)
class Job:
    """A checked run, ready to be built into a graph.

    Attributes:
        config: what the user asked for.
        layout: where everything goes.
        outputs: what to make.
        exports: what to build from the shards.
        inputs: what the flags name.
        plan: every image by shard.
        work: what is to be done for the shards that are still to be made.
        done: what is in the shards that are there already.
        renewed: stats of such shards whose images have another time and the same content.
        provenance: what the manifest says whatever happens.
        notes: what the user should know.
        outdated: files of an earlier run that `--overwrite` deletes, the plan last.
    """

    config: Config
    layout: Layout
    outputs: tuple[str, ...]
    exports: tuple[Export, ...]
    inputs: Inputs
    plan: Plan
    work: ShardWork
    done: Done
    renewed: Mapping[ShardKey, ShardStats]
    provenance: Provenance
    notes: tuple[str, ...]
    outdated: tuple[str, ...] = ()


def check(config: Config, workers: Workers = Workers.HERE) -> Job:
    """Read and check the inputs, fix the plan, find what is already done; write nothing.

    Args:
        config: what the user asked for.
        workers: where they look for the images.

    Raises:
        UsageError: wrong use, in one line.
        TemporaryDiskFull: there is no room for temporary files.
    """
    try:
        return _check(config, workers)
    except UsageError:
        raise
    except (ValueError, OSError, sqlite3.Error) as error:
        if is_full_disk(error):
            raise TemporaryDiskFull(describe_full_temporary()) from error
        if isinstance(error, sqlite3.Error):
            raise
        raise UsageError(str(error)) from error


def _check(config: Config, workers: Workers) -> Job:
    layout = Layout(config.output)
    inputs = read_captions(config)
    outputs = config.outputs or tuple(name for name in DEFAULT_OUTPUTS if inputs.captions or name != CAPTIONS)
    exports = requested_exports(outputs, config)
    if not inputs.captions:
        for name in (*(CAPTIONS for name in outputs if name == CAPTIONS), *_needing_captions(exports)):
            raise UsageError(f"--outputs {name}: expected --captions FILE beside --images; name {CAPTIONS_FILE}")
    outdated: tuple[str, ...] = ()
    published: Published = {}
    renewed: Published = {}
    earlier: Earlier | None = None
    cut: dict[str, list[int]] = {}
    if SHARDS in outputs:
        inputs = read_inputs(config, inputs, workers)
        refuse_lacking(exports, inputs.samples)
        own = None if config.overwrite else find_plan(layout)
        settings = inputs.settings(config)
        if config.dry_run and own:
            settings["weights_sha256"] = own.settings.get("weights_sha256")
        earlier = _read_earlier(config, inputs, settings)
        cut = choose_cut(inputs.catalog, config.num_shards, own or (earlier.plan if earlier else None))
        planned = show_count(inputs.catalog.refs(), "planning", IMAGES, sum(map(sum, cut.values())))
        plan = make_plan(settings, planned, cut)
        if config.overwrite:
            outdated = tuple(outdated_files(layout))
        else:
            published, renewed = _find_published(config, layout, own, plan)
        if config.retry_failed:
            published = {key: stats for key, stats in published.items() if not stats.failures}
    else:
        plan = find_plan(layout) or Plan({}, {})
        for ref in refs_of(plan) if inputs.captions else ():
            inputs.catalog.add_image(ref.uri, ref)
        published = read_published(layout.shards, plan)
        missing = len(plan.shards) - len(published)
        if set(outputs) == {CAPTIONS} and (missing or not plan.shards):
            plan, published = Plan({}, {}), {}
        elif not plan.shards:
            raise UsageError(
                f"--outputs {','.join(outputs)}: expected whole shards in {layout.shards}, found no run there; check "
                f"--output, or add {SHARDS} to --outputs"
            )
        elif missing:
            raise UsageError(
                f"--outputs {','.join(outputs)}: expected whole shards in {layout.shards}, but {missing} of "
                f"{len(plan.shards)} are missing or stale; make them first, with {SHARDS} in --outputs"
            )
    check_exports(exports, plan, inputs.captions is not None)
    check_records(exports, layout, published)
    refuse_taken_places(layout, plan, exports, outdated)
    todo = frozenset(key.filename for key in plan.shards if key not in published)
    copies = find_copies(earlier, plan, todo)
    work = ShardWork(inputs.catalog, cut, todo, copies, earlier, inputs.given_boxes is not None)
    described, failures = describe_run(config, inputs, plan), inputs.failures
    previous = Provenance({}) if outdated else read_previous(layout)
    if SHARDS not in outputs and plan.shards:
        described |= previous.described
        failures = (*failures, *_still_true(previous.failures, inputs, plan))
    return Job(
        config=config,
        layout=layout,
        outputs=outputs,
        exports=exports,
        inputs=inputs,
        plan=plan,
        work=work,
        done=_count_done(published),
        renewed=renewed,
        provenance=Provenance(described, failures, kept_entries(previous, outputs, exports, plan)),
        notes=inputs.notes(config),
        outdated=outdated,
    )


def _count_done(published: Published) -> Done:
    images = sum(key.num_images for key in published)
    written = sum(len(stats.ids) for stats in published.values())
    reused = sum(stats.reused for stats in published.values())
    num_bytes = sum(stats.num_bytes for stats in published.values())
    return Done(len(published), images, written, reused, num_bytes)


def _still_true(failures: Sequence[Failure], inputs: Inputs, plan: Plan) -> Iterator[Failure]:
    """Yield an earlier run's failures of rows and names, which this run does not look for."""
    uris = {failure.uri for failure in failures}
    found = {ref.uri for ref in refs_of(plan) if ref.uri in uris} if uris else set()
    found |= {inputs.captions.file.uri} if inputs.captions else set()
    return (failure for failure in failures if failure.uri not in found)


def _read_earlier(config: Config, inputs: Inputs, settings: dict[str, Any]) -> Earlier | None:
    if config.reuse is None:
        return None
    if config.dry_run and settings["weights_sha256"] is None:
        settings = {name: value for name, value in settings.items() if name != "weights_sha256"}
    earlier = read_earlier(config.reuse, settings, inputs.catalog, config.checksum)
    if isinstance(earlier, str):
        note(f"no record of --reuse {config.reuse} is taken over: the settings changed: {earlier}")
        return None
    return earlier


def _needing_captions(exports: tuple[Export, ...]) -> Iterator[str]:
    return (export.name for export in exports if export.needs_captions)


def _find_published(config: Config, layout: Layout, own: Plan | None, plan: Plan) -> tuple[Published, Published]:
    """Return the stats of the shards that are done, and of those the ones to publish anew."""
    _refuse_another_run(layout, own, plan)
    published = read_published(layout.shards, plan)
    renewed = find_unchanged(layout.shards, own, plan, note) if own else {}
    published |= renewed
    if config.check_shards:
        for key in find_damaged(layout.shards, published):
            note(f"{files.join(layout.shards, key.filename)} is damaged, and is made again")
            del published[key]
    return published, {key: stats for key, stats in renewed.items() if key in published}


def _refuse_another_run(layout: Layout, earlier: Plan | None, plan: Plan) -> None:
    change = describe_change(earlier, plan) if earlier else None
    if change:
        raise AnotherRunError(
            f"--output {layout.output} holds another run: {change}; to take over each record that stays the same and "
            f"compute the others, write to a new folder: --output NEW --reuse {layout.output}; or start afresh with "
            "--overwrite",
            change,
            plan.settings,
        )


def check_here(config: Config) -> None:
    """Refuse what the network cannot do on this machine; other machines refuse for themselves.

    Raises:
        UsageError: the network's packages are missing, there is no such device, or it lacks the precision.
    """
    missing = missing_modules("worker")
    if missing:
        raise UsageError(f"a local run needs the network's packages: {how_to_install('worker', missing)}")
    try:
        check_device(config.device, config.precision)
    except ValueError as error:
        raise UsageError(str(error)) from error
