"""The small files against each other: plan, stats, manifest, failures.jsonl, LMDB folders, caption files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from beam_pipeline.output_folder import OutputFolder
from beam_pipeline.verify.shards import Finding
from region_features.formats.annotations import AnnotationFile, decode_annotation_file
from region_features.lmdb_store.reader import DATA_FILE, LmdbReader
from region_features.lmdb_store.value_codecs import SOURCE_FILE
from region_features.records.failure import Failure
from region_features.records.plan import Plan, input_digest
from region_features.validation.captions import check_captions
from region_features.validation.record import Problem, check_key_list
from transforms import files
from transforms.manifest import Audit

_ANNOTATIONS = ("train_ann.jsonl", "valid_ann.jsonl", "test_ann.jsonl", "test1k_ann.jsonl")


def check_plan(found: OutputFolder) -> Iterator[Problem]:
    """Every planned shard is there, made of the planned images with the plan's settings, and no other shard is."""
    for name in found.stray_stats:
        yield Problem("stats", f"{name}: the shard that it vouches for is not there")
    for shard in found.shards.values():
        if shard.stats is None and not any(shard.name in problem.message for problem in found.problems):
            yield Problem("stats", f"{shard.name}: it has no stats file, the mark that it is whole")
    if found.plan is None:
        if found.shards and not any(problem.kind == "plan" for problem in found.problems):
            yield Problem("plan", f"{found.paths.plan}: expected the plan of the shards, found none")
        return
    planned = {key.filename for key in found.plan.shards}
    for name in found.shards:
        if name not in planned:
            yield Problem("plan", f"{name}: the plan has no such shard; is it left from another run?")
    for key, refs in found.plan.shards.items():
        if key.filename not in found.shards:
            yield Problem("plan", f"{key.filename}: planned for {len(refs)} images, and not there")
            continue
        stats = found.shards[key.filename].stats
        if stats is None:
            continue
        if stats.settings != found.plan.settings:
            yield Problem("plan", f"{key.filename}: made with other settings than the plan's")
        if stats.inputs != input_digest(refs):
            yield Problem("plan", f"{key.filename}: made of other images than the plan's")
        made = sorted([*stats.ids, *(failure.img_id for failure in stats.failures)])
        if made != sorted(ref.img_id for ref in refs):
            message = f"{key.filename}: expected its {len(refs)} images written or failed, its stats name {len(made)}"
            yield Problem("plan", message)


def check_manifest(found: OutputFolder, audit: Audit) -> Iterator[Problem]:
    """The manifest's counts and files are those that are there; what it does not list is not missed."""
    manifest, paths = found.manifest, found.paths
    if manifest is None:
        if not any(problem.kind == "manifest" for problem in found.problems):
            yield Problem("manifest", f"{paths.manifest}: not there: the run has not ended; run the same command again")
        return
    if manifest["status"] != "done":
        yield Problem("manifest", f"manifest.json: the run failed: {manifest.get('reason')}")
    for name, counts in manifest["sets"].items():
        there = audit.sets.get(name, {})
        for what, count in counts.items():
            if count != there.get(what):
                message = f"manifest.json, set {name}: expected {what} {there.get(what)} as the stats say, got {count}"
                yield Problem("manifest", message)
        if counts.get("in") != counts.get("written", 0) + counts.get("failed", 0):
            yield Problem("manifest", f"manifest.json, set {name}: in is not written + failed: {dict(counts)}")
    for what, count in manifest["counts"].items():
        total = sum(counts.get(what, 0) for counts in manifest["sets"].values())
        if count != total:
            yield Problem("manifest", f"manifest.json, counts: expected {what} {total} as in all sets, got {count}")
    if manifest["sets"] and found.plan and manifest.get("settings") != dict(found.plan.settings):
        yield Problem("manifest", "manifest.json: other settings than the plan's")
    listed = manifest["files"]
    for name, row in listed["tfrecord"].items():
        if name not in found.shards:
            yield Problem("manifest", f"{name}: listed in manifest.json, and not there")
        elif name in audit.shards and row != audit.shards[name]:
            yield Problem("manifest", f"manifest.json, {name}: expected {dict(audit.shards[name])} (stats), got {row}")
    yield from _check_sizes(paths.annotations, listed["annotations"])
    for section, folder in (("tsv", paths.features), ("negatives", paths.output)):
        yield from _check_sizes(folder, {name: row["bytes"] for name, row in listed.get(section, {}).items()})
    for name, row in listed["lmdb"].items():
        yield from _check_sizes(files.join(paths.lmdbs, name), {DATA_FILE: row.get("bytes")})


def _check_sizes(folder: str, listed: Mapping[str, int]) -> Iterator[Problem]:
    present = files.list_folder(folder) if listed else {}
    for name, size in listed.items():
        path = files.join(folder, name)
        if name not in present:
            yield Problem("manifest", f"{path}: listed in manifest.json, and not there")
        elif present[name] != size:
            yield Problem("manifest", f"{path}: expected {size} bytes (manifest.json), got {present[name]}")


def check_failures(found: OutputFolder, audit: Audit) -> Iterator[Problem]:
    """failures.jsonl names every image that the stats name as failed; other lines tell of captions and imports."""
    if found.manifest is None or not found.manifest["sets"]:
        return
    path = found.paths.failures
    try:
        data = files.read_bytes(path)
    except OSError as error:
        yield Problem("failures", f"{path}: cannot be read: {error}")
        return
    named: set[Failure] = set()
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            named.add(Failure.from_line(line))
        except (ValueError, TypeError) as error:
            yield Problem("failures", f"failures.jsonl, line {number}: expected a failure, got {line[:60]!r} ({error})")
    for failure in audit.failures:
        if failure not in named:
            yield Problem("failures", f"failures.jsonl: no line for {failure.img_id} ({failure.uri})")


def lmdb_folders(found: OutputFolder) -> list[str]:
    """The LMDB folders of a local output, by name."""
    if files.is_remote(found.paths.output) or not os.path.isdir(found.paths.lmdbs):
        return []
    folders = sorted(name for name in os.listdir(found.paths.lmdbs) if name.endswith("_feat.lmdb"))
    return [name for name in folders if os.path.exists(os.path.join(found.paths.lmdbs, name, DATA_FILE))]


def check_lmdb_source(folder: str, digest: str | None) -> Iterator[Problem]:
    """source.json: what the LMDB was built from is what the shards are now.

    Args:
        folder: the LMDB.
        digest: of the shards as they are; None where no planned shard belongs to it.
    """
    try:
        with open(os.path.join(folder, SOURCE_FILE), "rb") as stream:
            source = json.load(stream)
        built_from, size = source["source_digest"], source["data_bytes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Problem("lmdb", f"{folder}: source.json does not say what it was built from ({error!r}); build it again")
        return
    if digest is None:
        yield Problem("lmdb", f"{folder}: the plan has no set that belongs to it; is it left from another run?")
    elif built_from != digest:
        yield Problem("lmdb", f"{folder}: stale: the shards are no longer those that it was built from; build it again")
    there = os.path.getsize(os.path.join(folder, DATA_FILE))
    if size != there:
        yield Problem("lmdb", f"{folder}: expected {DATA_FILE} of {size} bytes (source.json), got {there}")


def check_lmdb_keys(lmdb: LmdbReader, expected: Sequence[bytes], records: int | None) -> Iterator[Problem]:
    """The LMDB has no key but those of its shards' images, and its key list is complete.

    Args:
        lmdb: which.
        expected: the keys of the shards' images.
        records: how many the manifest says, None where it says nothing.
    """
    try:
        stored, listed = list(lmdb.stored_keys()), lmdb.key_record()
    except Exception as error:  # lmdb's own errors are no ValueError
        yield Problem("lmdb", f"{lmdb.path}: cannot be read: {error}")
        return
    yield from check_key_list(listed, stored, lmdb.path)
    strange = set(stored) - set(expected)
    if strange:
        one = min(strange).decode(errors="backslashreplace")
        yield Problem("lmdb", f"{lmdb.path}: {len(strange)} keys are of no image in the shards, {one!r} for one")
    if records is not None and records != len(stored):
        yield Problem("lmdb", f"{lmdb.path}: expected {records} records (manifest.json), got {len(stored)}")


def check_annotations(found: OutputFolder, findings: Sequence[Finding]) -> Iterator[Problem]:
    """Caption files against the captions in the shards."""
    present = files.list_folder(found.paths.annotations)
    caption_files: list[AnnotationFile] = []
    for name in _ANNOTATIONS:
        if name in present:
            data = files.read_bytes(files.join(found.paths.annotations, name))
            caption_file, problems = decode_annotation_file(data, name)
            caption_files.append(caption_file)
            yield from (Problem("captions", problem) for problem in problems)
    yield from check_captions((image for finding in findings for image in finding.captioned), caption_files)
    yield from _check_uncaptioned(found.manifest, found.plan, findings)


def _check_uncaptioned(
    manifest: Mapping[str, Any] | None, plan: Plan | None, findings: Sequence[Finding]
) -> Iterator[Problem]:
    """The manifest's list of images without captions is true of the shards, if these were made with captions."""
    if not manifest or not plan or not manifest["sets"] or not plan.settings.get("captions_sha256"):
        return
    named = set(manifest.get("captions", {}).get("images_without_captions", {}).get("img_ids", ()))
    for finding in findings:
        for img_id in finding.bare:
            if img_id not in named:
                yield Problem(
                    "captions", f"{finding.shard}: image {img_id} lacks the captions that manifest.json counts"
                )
        for image in finding.captioned:
            if image.img_id in named:
                yield Problem(
                    "captions", f"{finding.shard}: image {image.img_id} has captions, which manifest.json denies"
                )
