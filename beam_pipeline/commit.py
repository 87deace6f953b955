"""What a checked run writes before its graph starts, and deletes when it has ended."""

from __future__ import annotations

from beam_pipeline.exports import EXPORTS, SHARDS
from beam_pipeline.output_lock import LOCK_FILES
from beam_pipeline.preflight.job import Job
from beam_pipeline.usage import UsageError
from region_features.background import in_threads
from region_features.records.stats import STATS_SUFFIX
from transforms import files
from transforms.plans import plan_chunks
from transforms.target_files import target_folders

_THREADS = 16  # they wait for the network


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
            job.work.publish(layout.inputs)
            files.publish_bytes(layout.plan, plan_chunks(job.plan))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"--output {layout.output}: expected a folder to write to, got: {reason}; check the path, and that you may "
            "write there"
        ) from error


def delete_temporaries(job: Job) -> None:
    """Delete what killed attempts left behind, those of outputs that this run did not build, too; not its own lock."""
    layout = job.layout
    sets = job.plan.set_names
    targets = (target for export in EXPORTS for target in export().targets(sets, job.plan.settings))
    folders = {folder for target in targets for folder in target_folders(layout.output, target)}
    folders |= {layout.output, layout.shards, layout.annotations}
    for _ in in_threads(lambda folder: files.delete_temporaries(folder, spare=LOCK_FILES), sorted(folders), _THREADS):
        pass
