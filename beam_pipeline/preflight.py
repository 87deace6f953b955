"""Before any work starts: `check` finds everything that can be wrong and writes nothing, `commit` writes the plan."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from beam_pipeline.config import Config
from beam_pipeline.environment import how_to_install, missing_modules
from beam_pipeline.export_checks import check_exports, check_records
from beam_pipeline.exports import CAPTIONS, DEFAULT_OUTPUTS, EXPORTS, SHARDS, requested_exports
from beam_pipeline.inputs import Inputs, read_captions, read_inputs
from beam_pipeline.layout import Layout
from beam_pipeline.output_lock import LOCK_FILES
from beam_pipeline.provenance import describe_run, kept_entries, read_previous
from beam_pipeline.usage import UsageError
from region_features.exports.base import Export
from region_features.records.coco import ANNOTATION_SUFFIX, CAPTIONS_FILE, TEST1K_ANNOTATION, annotation_files
from region_features.records.plan import (
    Plan,
    ShardKey,
    assign_shards,
    decode_plan,
    describe_change,
    encode_plan,
    parse_shard_name,
)
from region_features.records.stats import STATS_SUFFIX, ShardStats
from transforms import files
from transforms.detection import check_device
from transforms.manifest import PLAN, Provenance
from transforms.published import Published, find_damaged, find_unchanged, read_published
from transforms.target_files import target_folder, target_paths


class AnotherRunError(UsageError):
    """The output holds a run of other settings or images; `change` names the first difference."""

    def __init__(self, message: str, change: str) -> None:
        super().__init__(message)
        self.change = change


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
        todo: file names of the shards that are still to be made.
        done: images in the shards that are there already.
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
    todo: frozenset[str]
    done: int
    renewed: Mapping[ShardKey, ShardStats]
    provenance: Provenance
    notes: tuple[str, ...]
    outdated: tuple[str, ...] = ()


def check(config: Config) -> Job:
    """Read and check the inputs, fix the plan, find what is already done; write nothing.

    Raises:
        UsageError: wrong use, in one line.
    """
    try:
        return _check(config)
    except UsageError:
        raise
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error


def _check(config: Config) -> Job:
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
    if SHARDS in outputs:
        inputs = read_inputs(config, inputs)
        plan = Plan(inputs.settings(config), assign_shards(inputs.images.refs, config.num_shards))
        if config.overwrite:
            outdated = tuple(_outdated_files(layout))
        else:
            published, renewed = _find_published(config, layout, plan)
        if config.retry_failed:
            published = {key: stats for key, stats in published.items() if not stats.failures}
    else:
        plan = _read_plan(layout) or Plan({}, {})
        published = read_published(layout.shards, plan)
        missing = len(plan.shards) - len(published)
        if set(outputs) == {CAPTIONS} and (missing or not plan.shards):
            plan, published = Plan({}, {}), {}
        elif missing or not plan.shards:
            raise UsageError(
                f"--outputs {','.join(outputs)}: expected whole shards in {layout.shards}, but {missing or 'all'} are "
                f"missing or stale; add {SHARDS} to --outputs"
            )
    check_exports(exports, plan, inputs.captions is not None)
    check_records(exports, layout, published)
    described, failures = describe_run(config, inputs, plan), inputs.failures
    previous = Provenance({}) if outdated else read_previous(layout)
    if SHARDS not in outputs and plan.shards:
        described |= previous.described
        known = {ref.uri for refs in plan.shards.values() for ref in refs}
        known |= {inputs.captions.file.uri} if inputs.captions else set()
        failures = (*failures, *(failure for failure in previous.failures if failure.uri not in known))
    return Job(
        config=config,
        layout=layout,
        outputs=outputs,
        exports=exports,
        inputs=inputs,
        plan=plan,
        todo=frozenset(key.filename for key in plan.shards if key not in published),
        done=sum(key.num_images for key in published),
        renewed=renewed,
        provenance=Provenance(described, failures, kept_entries(previous, outputs, exports, plan)),
        notes=inputs.notes(config),
        outdated=outdated,
    )


def _needing_captions(exports: tuple[Export, ...]) -> Iterator[str]:
    return (export.name for export in exports if export.needs_captions)


def _read_plan(layout: Layout) -> Plan | None:
    if PLAN not in files.list_folder(layout.output):
        return None
    return decode_plan(files.read_bytes(layout.plan), layout.plan)


def _find_published(config: Config, layout: Layout, plan: Plan) -> tuple[Published, Published]:
    """Return the stats of the shards that are done, and of those the ones to publish anew."""
    earlier = _read_plan(layout)
    _refuse_another_run(layout, earlier, plan)
    published = read_published(layout.shards, plan)
    renewed = find_unchanged(layout.shards, earlier, plan, _note) if earlier else {}
    published |= renewed
    if config.check_shards:
        for key in find_damaged(layout.shards, published):
            _note(f"{files.join(layout.shards, key.filename)} is damaged, and is made again")
            del published[key]
    return published, {key: stats for key, stats in renewed.items() if key in published}


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def _refuse_another_run(layout: Layout, earlier: Plan | None, plan: Plan) -> None:
    change = describe_change(earlier, plan) if earlier else None
    if change:
        raise AnotherRunError(
            f"--output {layout.output} holds a run with other settings: {change}; "
            "choose another --output, or start afresh with --overwrite",
            change,
        )


def _outdated_files(layout: Layout) -> Iterator[str]:
    """List what an earlier run wrote, by name: nothing else is ever deleted."""
    yield from (layout.manifest, layout.manifest_digest, layout.failures)
    for name in files.list_folder(layout.shards):
        if parse_shard_name(name.removesuffix(STATS_SUFFIX)):
            yield files.join(layout.shards, name)
    for name in (*annotation_files(), TEST1K_ANNOTATION + ANNOTATION_SUFFIX):
        yield files.join(layout.annotations, name)
    try:
        plan = _read_plan(layout) or Plan({}, {})
    except ValueError:
        plan = Plan({}, {})  # torn: exports of its sets stay, and are built anew where the new run has those sets
    sets = list(dict.fromkeys(key.set_name for key in plan.shards))
    for export in (kind() for kind in EXPORTS):
        for target in export.targets(sets, plan.settings):
            yield from target_paths(target_folder(layout.output, target), target)
    # The plan goes last: until then a rerun knows what it is looking at.
    yield layout.plan


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


def commit(job: Job) -> None:
    """Delete what `--overwrite` deletes, then publish the plan: from here on a rerun resumes.

    An earlier manifest goes, since it does not describe this run.

    Raises:
        UsageError: the output folder cannot be written.
    """
    layout = job.layout
    try:
        files.delete_files(job.outdated)
        files.delete_files([layout.manifest, layout.manifest_digest])
        files.publish_bytes(layout.provenance, [job.provenance.to_json()])
        for key, stats in job.renewed.items():
            files.publish_bytes(files.join(layout.shards, key.filename + STATS_SUFFIX), [stats.to_json()])
        if SHARDS in job.outputs:
            files.publish_bytes(layout.plan, [encode_plan(job.plan)])
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"--output {layout.output}: expected a folder to write to, got: {reason}") from error


def delete_temporaries(job: Job) -> None:
    """Delete what killed attempts left behind; the lock stays until its holder ends."""
    for folder in (job.layout.output, job.layout.shards, job.layout.annotations):
        files.delete_temporaries(folder, spare=LOCK_FILES)
