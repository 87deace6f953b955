"""Provenance: what a manifest says of where the records come from."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from beam_pipeline.exports import CAPTIONS, SHARDS
from beam_pipeline.flags.config import Config
from beam_pipeline.layout import Layout
from beam_pipeline.preflight.inputs import Inputs
from region_features.detector.detectron2.metadata import object_names
from region_features.exports.base import Export
from region_features.records.failure import Failure
from region_features.records.json_text import parse_json
from region_features.records.plan import Plan
from transforms import files
from transforms.manifest import ANNOTATIONS_FOLDER, FAILURES, MANIFEST, ManifestEntry, Provenance

_PACKAGES = (
    "apache-beam",
    "numpy",
    "torch",
    "detectron2",
    "lmdb",
    "tensorflow",
    "opencv-python-headless",
    "pillow",
    "simplejpeg",
)
# The parts that only the run that writes the shards knows.
_OF_SHARDS = ("inputs", "weights", "import", "names", "boxes", "detector_config")


def kept_entries(
    previous: Provenance, outputs: Sequence[str], exports: Sequence[Export], plan: Plan
) -> list[ManifestEntry]:
    """Return the entries of the previous manifest for what this run does not build."""
    sets = plan.set_names
    built = {(export.name, target.name) for export in exports for target in export.targets(sets, plan.settings)}
    return [
        entry
        for entry in previous.kept
        if (entry.section, entry.name) not in built and (entry.section != ANNOTATIONS_FOLDER or CAPTIONS not in outputs)
    ]


def describe_run(config: Config, inputs: Inputs, plan: Plan) -> dict[str, Any]:
    """Return what the manifest says whatever becomes of the images: inputs, settings, versions, captions' counts."""
    captions = inputs.captions
    provenance: dict[str, Any] = {
        "inputs": {
            "corpus": config.corpus,
            "images": config.images,
            "captions": captions.file.uri if captions else None,
            "test1k_ids_sha256": inputs.test1k_ids.sha256 if inputs.test1k_ids else None,
            "notes": inputs.notes(config),
        },
        "settings": plan.settings,
        "versions": {"python": platform.python_version(), **_versions()},
    }
    if config.reuse:
        provenance["reuse"] = {"output": config.reuse, "checksum": config.checksum}
    if config.imports:
        provenance["inputs"]["imported"] = config.import_files
        provenance["import"] = {"failed_rows": len(inputs.images.failures)}
    elif inputs.images.failures:
        provenance["names"] = {"failed_rows": len(inputs.images.failures)}
    if inputs.weights:
        provenance["weights"] = {"format": inputs.weights.format, "attributes": inputs.weights.attributes}
    if inputs.given_boxes:
        provenance["boxes"] = inputs.given_boxes.describe(inputs.catalog)
    if inputs.detector:
        provenance["detector_config"] = {
            "file": inputs.detector.source,
            "values": inputs.detector.values,
            "object_names": object_names(inputs.detector),
        }
    if captions:
        provenance["captions"] = captions.describe(inputs.catalog)
    return provenance


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # a submitting laptop needs few of them
    return versions


def read_previous(layout: Layout) -> Provenance:
    """Read provenance from the previous manifest; empty if there is none.

    A run that builds other outputs from existing shards does not know where those come from, and its manifest still
    lists what earlier runs built.
    """
    present = files.list_folder(layout.output)
    try:
        if MANIFEST in present:
            manifest = parse_json(files.read_bytes(layout.manifest))
            failures = Failure.from_lines(files.read_bytes(layout.failures)) if FAILURES in present else []
            return Provenance(_of_shards(manifest), failures, list(_entries(manifest)))
        if layout.provenance.rpartition("/")[2] in present:
            previous = Provenance.read(layout.provenance)
            return replace(previous, described=_of_shards(previous.described))
    except (ValueError, TypeError, KeyError, AttributeError):
        pass  # torn: the shards themselves are checked elsewhere
    return Provenance({})


def _of_shards(described: Mapping[str, Any]) -> dict[str, Any]:
    return {name: described[name] for name in _OF_SHARDS if name in described}


def _entries(manifest: Mapping[str, Any]) -> Iterator[ManifestEntry]:
    for section, rows in manifest["files"].items():
        for name, row in rows.items() if section != SHARDS else ():
            yield ManifestEntry(section, name, row, {path: manifest["digests"][path] for path in row["paths"]})
