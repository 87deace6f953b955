"""The last steps: every id accounted for, failures.jsonl, manifest.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam

from region_features.records.coco import lmdb_name
from region_features.records.failure import IMPORT_STAGE, Failure
from region_features.records.plan import Plan, ShardKey, decode_plan
from region_features.records.stats import ShardStats
from transforms import files
from transforms.metrics import excess_failures
from transforms.published import read_published

# Section of the manifest's files, file name, and what is to be said of it.
Extra = tuple[str, str, dict[str, Any]]
_FAILURES = "failures"


@dataclass(frozen=True)
class Audit:
    """What became of every image of the plan.

    Attributes:
        sets: set name -> counts `in`, `written`, `failed`, `shards`.
        shards: file name -> size and sha256 of each published shard.
        lmdbs: LMDB name -> the shards it is built from, by set, and a digest of them.
        failures: the images that gave no record.
        error: why the run failed, None where it did not.
    """

    sets: Mapping[str, Mapping[str, int]]
    shards: Mapping[str, Mapping[str, Any]]
    lmdbs: Mapping[str, tuple[tuple[tuple[str, ...], ...], str]]
    failures: tuple[Failure, ...]
    error: str | None


def audit_shards(
    plan: Plan, stats: Mapping[ShardKey, ShardStats], threshold: float, lost_rows: Sequence[Failure] = ()
) -> Audit:
    """Compare the plan with the shards' stats.

    Args:
        plan: what should be there.
        stats: the published shards.
        threshold: largest allowed share of failed images.
        lost_rows: imported rows that are lost, and are no image of the plan.
    """
    sets: dict[str, dict[str, int]] = {}
    failures: list[Failure] = []
    lost: list[str] = []
    miscounted: list[str] = []
    for key, refs in plan.shards.items():
        counts = sets.setdefault(key.set_name, {"in": 0, "written": 0, "failed": 0, "shards": 0})
        counts["in"] += key.num_images
        shard = stats.get(key)
        if shard is None:
            lost.extend(ref.uri for ref in refs)
            continue
        accounted = {*shard.ids, *(failure.img_id for failure in shard.failures)}
        lost.extend(ref.uri for ref in refs if ref.img_id not in accounted)
        if len(shard.ids) + len(shard.failures) != key.num_images:
            miscounted.append(key.filename)
        counts["written"] += len(shard.ids)
        counts["failed"] += len(shard.failures)
        counts["shards"] += 1
        failures.extend(shard.failures)
    if lost:
        error: str | None = (
            f"{len(lost)} of {plan.num_images} images are neither written nor failed, {lost[0]} for one; "
            "run the same command again to do their shards"
        )
    elif miscounted:
        error = (
            f"the stats of {miscounted[0]} hold more images than the shard was made of; "
            "delete that file to have the shard redone"
        )
    else:
        error = excess_failures([*failures, *lost_rows], plan.num_images + len(lost_rows), threshold)
    return Audit(
        sets=sets,
        shards={shard.shard: {"bytes": shard.num_bytes, "sha256": shard.sha256} for shard in stats.values()},
        lmdbs=_lmdb_sources(plan, stats),
        failures=tuple(failures),
        error=error,
    )


def _lmdb_sources(
    plan: Plan, stats: Mapping[ShardKey, ShardStats]
) -> dict[str, tuple[tuple[tuple[str, ...], ...], str]]:
    groups: dict[str, dict[str, list[ShardKey]]] = {}
    for key in plan.shards:
        groups.setdefault(lmdb_name(key.set_name), {}).setdefault(key.set_name, []).append(key)
    sources = {}
    for name, by_set in groups.items():
        digest = hashlib.sha256()
        for key in (key for keys in by_set.values() for key in keys):
            digest.update(f"{key.filename} {stats[key].sha256 if key in stats else ''}\n".encode())
        sources[name] = (tuple(tuple(key.filename for key in keys) for keys in by_set.values()), digest.hexdigest())
    return sources


def audit_folder(
    plan_uri: str | None, published: Iterable[str], folder: str, inputs_uri: str, threshold: float
) -> Audit:
    """Compare the plan with what stands in `folder`; `published` only makes this step wait."""
    del published
    plan = decode_plan(files.read_bytes(plan_uri), plan_uri) if plan_uri else Plan({}, {})
    _, found_before = read_inputs(inputs_uri)
    planned = {ref.img_id for refs in plan.shards.values() for ref in refs}
    lost_rows = [one for one in found_before if one.stage == IMPORT_STAGE and one.img_id not in planned]
    return audit_shards(plan, read_published(folder, plan), threshold, lost_rows)


def encode_inputs(fixed: Mapping[str, Any], failures: Iterable[Failure]) -> bytes:
    """What is known before the graph starts, for `read_inputs`: it names images, and so stays out of the graph.

    Args:
        fixed: see `build_manifest`.
        failures: damaged rows of the captions and boxes files, and of imported ones.
    """
    return json.dumps({**fixed, _FAILURES: [asdict(failure) for failure in failures]}).encode()


def read_inputs(uri: str) -> tuple[dict[str, Any], list[Failure]]:
    """What `encode_inputs` was given."""
    fixed = json.loads(files.read_bytes(uri))
    return fixed, [Failure(**failure) for failure in fixed.pop(_FAILURES)]


def write_failures(audit: Audit, found_before: Iterable[Failure], path: str) -> None:
    """Publish failures.jsonl: the images' failures in shard order, then those that were found before the start."""
    files.publish_bytes(path, map(_encode, (*audit.failures, *found_before)))


def _encode(failure: Failure) -> bytes:
    # Half a surrogate pair, which a damaged captions file may hold, becomes its JSON escape.
    return failure.to_line().encode("utf-8", "backslashreplace")


def build_manifest(
    audit: Audit, fixed: Mapping[str, Any], annotations: Mapping[str, int], lmdbs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """manifest.json's content; it holds no time, so that a resumed run writes the same bytes.

    Args:
        audit: what became of the images.
        fixed: what was known before the run: inputs, settings, captions' counts, versions.
        annotations: caption file -> bytes.
        lmdbs: LMDB folder -> form, records and bytes.
    """
    total = {name: sum(counts[name] for counts in audit.sets.values()) for name in ("in", "written", "failed")}
    return {
        "status": "failed" if audit.error else "done",
        "reason": audit.error,
        **fixed,
        "counts": total,
        "sets": audit.sets,
        "files": {"tfrecord": audit.shards, "annotations": dict(sorted(annotations.items())), "lmdb": lmdbs},
    }


def publish_manifest(
    _: None,
    audit: Audit,
    annotations: Iterable[tuple[str, int]],
    lmdbs: Iterable[Any],
    inputs_uri: str,
    output: str,
    extras: Iterable[Extra] = (),
) -> Iterator[str]:
    """Write failures.jsonl and manifest.json into `output`; gives the manifest's path."""
    fixed, found_before = read_inputs(inputs_uri)
    write_failures(audit, found_before, files.join(output, "failures.jsonl"))
    built = {
        f"{result.name}_feat.lmdb": {"form": result.form, "records": result.records, "bytes": result.bytes}
        for result in lmdbs
    }
    manifest = build_manifest(audit, fixed, dict(annotations), dict(sorted(built.items())))
    for section, name, row in sorted(extras, key=lambda extra: extra[:2]):
        manifest["files"].setdefault(section, {})[name] = row
    path = files.join(output, "manifest.json")
    files.publish_bytes(path, [(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n").encode()])
    yield path


@dataclass
class AuditShards(beam.PTransform):
    """The published shards' names -> one Audit, once all of them are there.

    Attributes:
        plan_uri: the plan's path, None for a run without images.
        folder: where the shards stand.
        inputs_uri: what `encode_inputs` gave.
        threshold: largest allowed share of failed images.
    """

    plan_uri: str | None
    folder: str
    inputs_uri: str
    threshold: float

    def expand(self, published: beam.PCollection) -> beam.PCollection:
        """Wait, then compare."""
        return (
            published.pipeline
            | "Plan" >> beam.Create([self.plan_uri])
            | "Compare"
            >> beam.Map(audit_folder, beam.pvalue.AsIter(published), self.folder, self.inputs_uri, self.threshold)
        )


@dataclass
class WriteManifest(beam.PTransform):
    """An Audit, the caption files and the LMDBs -> the manifest's path.

    Attributes:
        caption_files: PCollection of (file name, bytes).
        lmdbs: PCollection of LmdbResult.
        inputs_uri: what `encode_inputs` gave.
        output: the run's output folder.
        extras: PCollection of Extra, what else was built; None where nothing can be.
    """

    caption_files: beam.PCollection
    lmdbs: beam.PCollection
    inputs_uri: str
    output: str
    extras: beam.PCollection | None = None

    def expand(self, audits: beam.PCollection) -> beam.PCollection:
        """Write once everything else is done."""
        return (
            audits.pipeline
            | "Once" >> beam.Create([None])
            | "Publish"
            >> beam.FlatMap(
                publish_manifest,
                beam.pvalue.AsSingleton(audits),
                beam.pvalue.AsIter(self.caption_files),
                beam.pvalue.AsIter(self.lmdbs),
                self.inputs_uri,
                self.output,
                () if self.extras is None else beam.pvalue.AsIter(self.extras),
            )
        )


def describe(manifest: Mapping[str, Any], output: str, features: str, lmdbs: str) -> str:
    """The summary that ends a run: what was written where.

    Args:
        manifest: manifest.json's content.
        output: the run's folder.
        features, lmdbs: the folders of its TSVs and LMDBs.
    """
    lines = [
        f"{name}: {counts['written']} of {counts['in']} images in {counts['shards']} shards, {counts['failed']} failed"
        for name, counts in manifest["sets"].items()
    ]
    found = manifest["files"]
    if found["tfrecord"]:
        shard_bytes = sum(row["bytes"] for row in found["tfrecord"].values())
        lines.append(f"{files.join(output, 'tfrecord')}: {len(found['tfrecord'])} shards, {_readable(shard_bytes)}")
    for name, size in found["annotations"].items():
        lines.append(f"{files.join(output, 'annotations', name)}: {_readable(size)}")
    for name, row in found["lmdb"].items():
        lines.append(f"{files.join(lmdbs, name)}: {row['records']} records, {_readable(row['bytes'])}")
    for name, row in found.get("tsv", {}).items():
        lines.append(f"{files.join(features, name)}: {row['rows']} rows, {_readable(row['bytes'])}")
    for name, row in found.get("negatives", {}).items():
        place = files.join(output, name)
        lines.append(f"{place}: {row['images']} images x {row['columns']}, {_readable(row['bytes'])}")
    for part, what in (("captions", "the captions file"), ("boxes", "the boxes file"), ("import", "imported files")):
        failed_rows = manifest.get(part, {}).get("failed_rows", 0)
        if failed_rows:
            lines.append(f"{files.join(output, 'failures.jsonl')}: {failed_rows} damaged rows of {what}")
    if manifest["counts"]["failed"]:
        lines.append(f"{files.join(output, 'failures.jsonl')}: {manifest['counts']['failed']} failed, with the reasons")
    return "\n".join(lines)


def _readable(size: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
