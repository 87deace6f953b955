"""Whether a run would give another version than the latest one, by its plan and what its manifest would say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from beam_pipeline.exports import CAPTIONS
from beam_pipeline.preflight.job import Job
from transforms import files
from transforms.manifest import ANNOTATIONS_FOLDER, PLAN
from transforms.plans import plan_chunks

# What a manifest holds beside the description of the run: what became of the images, and the files.
_RESULTS = ("status", "reason", "health", "counts", "sets", "files", "digests")
# Another release of a package makes no new version, or every upgrade would compute every image.
_NOT_COMPARED = ("versions", "reuse")


def what_changed(job: Job, manifest: Mapping[str, Any]) -> str | None:
    """Say what a run would make otherwise than the latest version; None where nothing changed.

    Compared are the images (path, size, time or generation), captions, settings, outputs with their settings, and
    whatever else the two manifests say of their inputs.

    Args:
        job: the checked run of a new version.
        manifest: of the latest version.
    """
    if job.config.retry_failed and manifest["counts"]["failed"]:
        return f"{manifest['counts']['failed']} failed images are tried again"
    before = {name: value for name, value in manifest.items() if name not in _RESULTS}
    now = json.loads(json.dumps(dict(job.provenance.described)))
    for name, value in now.get("settings", {}).items():
        earlier = before.get("settings", {}).get(name)
        if earlier != value:
            return f"the setting {name} was {earlier}, now it is {value}"
    for name in sorted({*before, *now} - {*_NOT_COMPARED}):
        if _without_notes(before.get(name)) != _without_notes(now.get(name)):
            return f"the {name} changed"
    if manifest["digests"].get(PLAN) != files.digest_of_chunks(plan_chunks(job.plan)):
        return "images came, went or changed"
    for name in sorted({*(outputs := _outputs(job)), *(earlier_outputs := _listed_outputs(job, manifest))}):
        if outputs.get(name) != earlier_outputs.get(name):
            return f"the output {name} changed"
    return None


def _without_notes(value: Any) -> Any:
    """Leave out notes of a listing: a text file beside the images, for one, is no change."""
    return {name: part for name, part in value.items() if name != "notes"} if isinstance(value, dict) else value


def _outputs(job: Job) -> dict[str, Any]:
    """Return section -> name -> settings of what the run would build."""
    sets = job.plan.set_names
    outputs: dict[str, Any] = {
        export.name: {target.name: export.settings() for target in export.targets(sets, job.plan.settings)}
        for export in job.exports
    }
    if CAPTIONS in job.outputs:
        outputs[ANNOTATIONS_FOLDER] = True
    return {name: rows for name, rows in outputs.items() if rows}


def _listed_outputs(job: Job, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same of a manifest."""
    settings = {export.name: export.settings().keys() for export in job.exports}
    return {
        name: True
        if name == ANNOTATIONS_FOLDER
        else {target: {key: row.get(key) for key in settings.get(name, ())} for target, row in rows.items()}
        for name, rows in manifest["files"].items()
        if rows and name != "tfrecord"
    }
