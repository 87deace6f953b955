"""The last steps of a run: the audit of its shards, failures.jsonl, manifest.json with a digest of every file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import apache_beam as beam

from region_features.health.verdict import describe_health
from region_features.records.audit import Audit, audit_shards
from region_features.records.failure import IMPORT_STAGE, NAME_STAGE, Failure
from region_features.records.json_text import parse_json
from region_features.records.plan import SHARDS_FOLDER, Plan
from transforms import files
from transforms.plans import open_plan, refs_of
from transforms.published import read_published

MANIFEST, FAILURES, PLAN = "manifest.json", "failures.jsonl", "plan.jsonl"
ANNOTATIONS_FOLDER = "annotations"
# Its own digest stands beside the manifest, as `sha256sum --check` reads it.
MANIFEST_DIGEST = f"{MANIFEST}.sha256"


COUNTS = ("in", "written", "failed", "computed", "reused")


class ManifestEntry(NamedTuple):
    """Something that a run wrote: the output it belongs to, its name, what is to be said of it, and its files.

    Attributes:
        digests: path of each file below the output folder -> its `bytes` and `sha256`.
    """

    section: str
    name: str
    row: Mapping[str, Any]
    digests: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Provenance:
    """What is known before the graph starts.

    Stored in a side file: it grows with the number of images, and Dataflow limits the graph's size.

    Attributes:
        described: what the manifest says whatever becomes of the images: inputs, settings, captions' counts, versions.
        failures: damaged rows of the captions and boxes files, and of imported ones.
        kept: entries of the previous manifest for outputs that this run does not build.
    """

    described: Mapping[str, Any]
    failures: Sequence[Failure] = ()
    kept: Sequence[ManifestEntry] = ()

    def to_json(self) -> bytes:
        """Return the side file's content."""
        failures, kept = [asdict(failure) for failure in self.failures], [list(entry) for entry in self.kept]
        return json.dumps({"described": self.described, "failures": failures, "kept": kept}).encode()

    @classmethod
    def read(cls, uri: str) -> Provenance:
        """Read the side file.

        Raises:
            ValueError, KeyError, TypeError: it holds something else.
        """
        content = parse_json(files.read_bytes(uri))
        failures = [Failure(**failure) for failure in content["failures"]]
        return cls(dict(content["described"]), failures, [ManifestEntry(*entry) for entry in content["kept"]])


def audit_folder(
    plan_uri: str | None, published: Iterable[str], folder: str, provenance_uri: str, threshold: float
) -> Audit:
    """Compare the plan with the shards in `folder`; `published` only makes this step wait for them."""
    del published
    plan = open_plan(plan_uri) if plan_uri else Plan({}, {})
    failures = Provenance.read(provenance_uri).failures
    dropped = {row.img_id for row in failures if row.stage in (IMPORT_STAGE, NAME_STAGE)}
    if dropped:
        dropped.difference_update(ref.img_id for ref in refs_of(plan))
    dropped_rows = [row for row in failures if row.stage in (IMPORT_STAGE, NAME_STAGE) and row.img_id in dropped]
    return audit_shards(plan, read_published(folder, plan), threshold, dropped_rows)


def encode_failures(audit: Audit, earlier_failures: Iterable[Failure]) -> bytes:
    """Encode failures.jsonl: the images' failures in shard order, then those from before the start."""
    # Half a surrogate pair, which a damaged captions file may hold, becomes its JSON escape.
    lines = (failure.to_line() for failure in (*audit.failures, *earlier_failures))
    return "".join(lines).encode("utf-8", "backslashreplace")


def build_manifest(
    audit: Audit, described: Mapping[str, Any], entries: Iterable[ManifestEntry], digests: Mapping[str, Any]
) -> dict[str, Any]:
    """Compose manifest.json; it holds no time, so that a resumed run writes the same bytes.

    Args:
        audit: what became of the images.
        described: see Provenance.
        entries: what was written beside the shards.
        digests: path below the output folder -> `bytes` and `sha256`, of the plan and failures.jsonl.
    """
    listed: dict[str, dict[str, Any]] = {"tfrecord": dict(audit.shards)}
    all_digests = {**digests, **{f"{SHARDS_FOLDER}/{name}": row for name, row in audit.shards.items()}}
    all_digests |= {f"{SHARDS_FOLDER}/{name}": row for name, row in audit.stats.items()}
    for entry in sorted(entries, key=lambda entry: entry[:2]):
        listed.setdefault(entry.section, {})[entry.name] = {**entry.row, "paths": sorted(entry.digests)}
        all_digests |= entry.digests
    settings = described.get("settings", {})
    return {
        "status": "failed" if audit.error else "done",
        "reason": audit.error,
        **described,
        **({"health": describe_health(audit.health, settings)} if audit.health.images else {}),
        "counts": {name: sum(counts[name] for counts in audit.sets.values()) for name in COUNTS},
        "sets": audit.sets,
        "files": listed,
        "digests": dict(sorted(all_digests.items())),
    }


def publish_manifest(
    _: None, audit: Audit, entries: Iterable[ManifestEntry], provenance_uri: str, output: str
) -> Iterator[str]:
    """Write failures.jsonl and manifest.json into `output`; yield the manifest's path."""
    provenance = Provenance.read(provenance_uri)
    failures = encode_failures(audit, provenance.failures)
    files.publish_bytes(files.join(output, FAILURES), [failures])
    digests = {FAILURES: files.digest_of_bytes(failures)}
    if audit.sets:
        digests[PLAN] = files.digest_of(files.join(output, PLAN))
    kept = [entry for entry in provenance.kept if _is_current(entry, audit)]
    manifest = build_manifest(audit, provenance.described, [*entries, *kept], digests)
    data = (json.dumps(manifest, ensure_ascii=False, indent=1) + "\n").encode()
    path = files.join(output, MANIFEST)
    files.publish_bytes(path, [data])
    line = f"{files.digest_of_bytes(data)['sha256']}  {MANIFEST}\n"
    files.publish_bytes(files.join(output, MANIFEST_DIGEST), [line.encode()])
    yield path


def _is_current(entry: ManifestEntry, audit: Audit) -> bool:
    """Whether an entry of an earlier manifest still is true: what it was built from has not changed."""
    sets = entry.row.get("sets")
    if sets is None:
        return True
    return set(sets) <= audit.shards_of_set.keys() and audit.source_digest(sets) == entry.row["source_digest"]


@dataclass
class AuditShards(beam.PTransform):
    """The published shards' names -> one Audit, once all of them are there.

    Attributes:
        plan_uri: the plan's path, None for a run without images.
        folder: where the shards stand.
        provenance_uri: the file of a Provenance.
        threshold: largest allowed share of failed images.
    """

    plan_uri: str | None
    folder: str
    provenance_uri: str
    threshold: float

    def expand(self, published: beam.PCollection) -> beam.PCollection:
        """Wait, then compare."""
        return (
            published.pipeline
            | "Plan" >> beam.Create([self.plan_uri])
            | "Compare"
            >> beam.Map(audit_folder, beam.pvalue.AsIter(published), self.folder, self.provenance_uri, self.threshold)
        )


@dataclass
class WriteManifest(beam.PTransform):
    """An Audit and the ManifestEntries -> the manifest's path.

    Attributes:
        entries: PCollection of ManifestEntry.
        provenance_uri: the file of a Provenance.
        output: the run's output folder.
    """

    entries: beam.PCollection
    provenance_uri: str
    output: str

    def expand(self, audits: beam.PCollection) -> beam.PCollection:
        """Write once everything else is done."""
        return (
            audits.pipeline
            | "Once" >> beam.Create([None])
            | "Publish"
            >> beam.FlatMap(
                publish_manifest,
                beam.pvalue.AsSingleton(audits),
                beam.pvalue.AsIter(self.entries),
                self.provenance_uri,
                self.output,
            )
        )
