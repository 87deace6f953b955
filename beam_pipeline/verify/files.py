"""The small files against each other: plan, stats, manifest, failures.jsonl, annotation files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from beam_pipeline.exports import EXPORTS
from beam_pipeline.preflight.output_folder import OutputFolder
from beam_pipeline.verify.shards import ShardReport
from region_features.formats.annotations import AnnotationRows, decode_annotation_file
from region_features.records.audit import Audit
from region_features.records.coco import annotation_names
from region_features.records.failure import Failure
from region_features.records.plan import input_digest
from region_features.validation.captions import check_captions
from region_features.validation.record import Problem
from transforms import files


def check_plan(output: OutputFolder) -> Iterator[Problem]:
    """Check that every planned shard is there, of the planned images and settings, and that no other shard is."""
    for name in output.stray_stats:
        yield Problem("stats", f"{name}: the shard that it vouches for is not there")
    for shard in output.shards.values():
        if shard.stats is None and not any(shard.name in problem.message for problem in output.problems):
            yield Problem("stats", f"{shard.name}: it has no stats file, the mark that it is whole")
    if output.plan is None:
        if output.shards and not any(problem.kind == "plan" for problem in output.problems):
            yield Problem("plan", f"{output.layout.plan}: expected the plan of the shards, found none")
        return
    planned = {key.filename for key in output.plan.shards}
    for name in output.shards:
        if name not in planned:
            yield Problem("plan", f"{name}: the plan has no such shard; is it left from another run?")
    for key, refs in output.plan.shards.items():
        if key.filename not in output.shards:
            yield Problem("plan", f"{key.filename}: planned for {len(refs)} images, and not there")
            continue
        stats = output.shards[key.filename].stats
        if stats is None:
            continue
        if stats.settings != output.plan.settings:
            yield Problem("plan", f"{key.filename}: made with other settings than the plan's")
        if stats.inputs != input_digest(refs):
            yield Problem("plan", f"{key.filename}: made of other images than the plan's")
        accounted = sorted([*stats.ids, *(failure.img_id for failure in stats.failures)])
        if accounted != sorted(ref.img_id for ref in refs):
            counts = f"its {len(refs)} images written or failed, its stats name {len(accounted)}"
            yield Problem("plan", f"{key.filename}: expected {counts}")


def check_manifest(output: OutputFolder, audit: Audit) -> Iterator[Problem]:
    """Check the manifest's counts and files; what it does not list is not missed."""
    manifest, layout = output.manifest, output.layout
    if manifest is None:
        if not any(problem.kind == "manifest" for problem in output.problems):
            yield Problem(
                "manifest", f"{layout.manifest}: not there: the run has not ended; run the same command again"
            )
        return
    if manifest["status"] != "done":
        yield Problem("manifest", f"manifest.json: the run failed: {manifest.get('reason')}")
    for name, counts in manifest["sets"].items():
        actual = audit.sets.get(name, {})
        for what, count in counts.items():
            if count != actual.get(what):
                message = f"manifest.json, set {name}: expected {what} {actual.get(what)} as the stats say, got {count}"
                yield Problem("manifest", message)
        if counts.get("in") != counts.get("written", 0) + counts.get("failed", 0):
            yield Problem("manifest", f"manifest.json, set {name}: in is not written + failed: {dict(counts)}")
    for what, count in manifest["counts"].items():
        total = sum(counts.get(what, 0) for counts in manifest["sets"].values())
        if count != total:
            yield Problem("manifest", f"manifest.json, counts: expected {what} {total} as in all sets, got {count}")
    if manifest["sets"] and output.plan and manifest.get("settings") != dict(output.plan.settings):
        yield Problem("manifest", "manifest.json: other settings than the plan's")
    for name, row in manifest["files"]["tfrecord"].items():
        if name not in output.shards:
            yield Problem("manifest", f"{name}: listed in manifest.json, and not there")
        elif name in audit.shards and row != audit.shards[name]:
            yield Problem("manifest", f"manifest.json, {name}: expected {dict(audit.shards[name])} (stats), got {row}")
    settings = output.plan.settings if output.plan else {}
    targets: dict[str, set[str]] = {}
    for export in (kind() for kind in EXPORTS):
        names = (target.name for target in export.targets(list(audit.shards_of_set), settings))
        targets.setdefault(export.name, set()).update(names)
    for section, known in targets.items():
        for name in manifest["files"].get(section, {}).keys() - known:
            yield Problem("manifest", f"{name}: listed in manifest.json as {section}, and of no set of the plan")


def check_failures(output: OutputFolder, audit: Audit) -> Iterator[Problem]:
    """Check that failures.jsonl names every failed image of the stats; other lines tell of captions and imports."""
    if output.manifest is None or not output.manifest["sets"]:
        return
    path = output.layout.failures
    try:
        data = files.read_bytes(path)
    except OSError as error:
        yield Problem("failures", f"{path}: cannot be read: {error}")
        return
    listed: set[Failure] = set()
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            listed.add(Failure.from_line(line))
        except (ValueError, TypeError) as error:
            yield Problem("failures", f"failures.jsonl, line {number}: expected a failure, got {line[:60]!r} ({error})")
    for failure in audit.failures:
        if failure not in listed:
            yield Problem("failures", f"failures.jsonl: no line for {failure.img_id} ({failure.uri})")


def check_annotations(output: OutputFolder, reports: Sequence[ShardReport]) -> Iterator[Problem]:
    """Compare the annotation files with the captions in the shards."""
    folder = output.layout.annotations
    sizes = files.list_folder(folder)
    decoded: dict[str, AnnotationRows] = {}
    for name in annotation_names():
        if name in sizes:
            decoded[name], messages = decode_annotation_file(files.read_bytes(files.join(folder, name)), name)
            yield from (Problem("captions", message) for message in messages)
    yield from check_captions((image for report in reports for image in report.captioned), decoded)
    yield from _check_uncaptioned(output, reports)


def _check_uncaptioned(output: OutputFolder, reports: Sequence[ShardReport]) -> Iterator[Problem]:
    """Compare the manifest's list of images without captions with shards that were made with captions."""
    manifest, plan = output.manifest, output.plan
    if not manifest or not plan or not manifest["sets"] or not plan.settings.get("captions_sha256"):
        return
    listed = set(manifest.get("captions", {}).get("images_without_captions", {}).get("img_ids", ()))
    for report in reports:
        for img_id in report.uncaptioned:
            if img_id not in listed:
                message = f"{report.shard}: image {img_id} lacks the captions that manifest.json counts"
                yield Problem("captions", message)
        for image in report.captioned:
            if image.img_id in listed:
                message = f"{report.shard}: image {image.img_id} has captions, which manifest.json denies"
                yield Problem("captions", message)
