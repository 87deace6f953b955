"""What a run's manifest says of where its records come from."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from typing import Any

from beam_pipeline.extraction import ExtractionOptions, counted
from beam_pipeline.layout import Paths
from beam_pipeline.options import Config
from region_features.records.failure import Failure
from region_features.records.item import ImageCaptions
from region_features.records.plan import Plan
from transforms import files
from transforms.detection import WeightsFacts
from transforms.manifest import read_inputs

_PACKAGES = ("apache-beam", "numpy", "torch", "detectron2", "lmdb", "tensorflow", "opencv-python-headless", "pillow")
# What was known when the shards were made.
_OF_SHARDS = ("inputs", "weights", "import", "boxes", "detector_config")


def describe_run(
    config: Config,
    captions: str | None,
    entries: list[ImageCaptions],
    failures: list[Failure],
    plan: Plan,
    weights: WeightsFacts | None,
    modes: ExtractionOptions,
    notes: tuple[str, ...],
    lost: tuple[Failure, ...],
) -> dict[str, Any]:
    """What the manifest says whatever happens: inputs, settings, versions, captions' counts.

    Args:
        config: what the user asked for.
        captions: the captions file, None where there is none.
        entries: its images.
        failures: its damaged rows.
        plan: every image by shard.
        weights: what detects, None where nothing does.
        modes: what was asked for of boxes, network and rotation.
        notes: what the user is told.
        lost: imported rows that cannot be used.
    """
    fixed: dict[str, Any] = {
        "inputs": {"corpus": config.corpus, "images": config.images, "captions": captions, "notes": notes},
        "settings": plan.settings,
        "versions": {"python": platform.python_version(), **_versions()},
    }
    if config.imports:
        fixed["inputs"]["imported"] = config.import_tsv or config.import_lmdb
        fixed["import"] = {"failed_rows": len(lost)}
    if weights:
        fixed["weights"] = {"format": weights.format, "attributes": weights.attributes}
    images = {ref.img_id for refs in plan.shards.values() for ref in refs}
    fixed.update(modes.manifest_part(images))
    if captions:
        described = {entry.img_id for entry in entries}
        fixed["captions"] = {
            "rows": len(entries),
            "failed_rows": len(failures),
            "images_without_captions": counted(images - described),
            "captions_without_images": counted(described - images),
        }
    return fixed


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # a submitting laptop needs few of them
    return versions


def read_provenance(paths: Paths, plan: Plan, captions: str | None) -> tuple[dict[str, Any], tuple[Failure, ...]]:
    """What an earlier run told of where its shards come from; empty where it told nothing.

    A run that builds other outputs from shards that are there was not told.

    Args:
        paths: of the run.
        plan: every image by shard.
        captions: the captions file that this run has read for itself, None where it has none.

    Returns:
        A part of the manifest, and what is in failures.jsonl but in no shard: imported rows and lines of boxes that
        were lost before the start.
    """
    present = files.list_folder(paths.output)
    try:
        if "manifest.json" in present:
            earlier = json.loads(files.read_bytes(paths.manifest))
            failures = Failure.from_lines(files.read_bytes(paths.failures)) if "failures.jsonl" in present else []
        elif paths.inputs.rpartition("/")[2] in present:
            earlier, failures = read_inputs(paths.inputs)
        else:
            return {}, ()
        told = {name: earlier[name] for name in _OF_SHARDS if name in earlier}
    except (ValueError, TypeError, KeyError):
        return {}, ()  # torn: the shards themselves are checked elsewhere
    known = {captions, *(ref.uri for refs in plan.shards.values() for ref in refs)}
    return told, tuple(failure for failure in failures if failure.uri not in known)
