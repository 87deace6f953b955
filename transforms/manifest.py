"""The last steps of a run: the audit of its shards, failures.jsonl, manifest.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import apache_beam as beam

from region_features.records.audit import Audit, audit_shards
from region_features.records.failure import IMPORT_STAGE, Failure
from region_features.records.plan import Plan, decode_plan
from transforms import files
from transforms.shards import read_published

MANIFEST, FAILURES = "manifest.json", "failures.jsonl"


class ManifestEntry(NamedTuple):
    """Something that a run wrote: the output it belongs to, its name, and what is to be said of it."""

    section: str
    name: str
    row: Mapping[str, Any]


def encode_provenance(provenance: Mapping[str, Any], failures: Iterable[Failure]) -> bytes:
    """Encode what is known before the graph starts, for `read_provenance`.

    Stored in a side file: it grows with the number of images, and Dataflow limits the graph's size.

    Args:
        provenance: see `build_manifest`.
        failures: damaged rows of the captions and boxes files, and of imported ones.
    """
    return json.dumps({"provenance": provenance, "failures": [asdict(failure) for failure in failures]}).encode()


def read_provenance(uri: str) -> tuple[dict[str, Any], list[Failure]]:
    """Read back what `encode_provenance` was given.

    Raises:
        ValueError, KeyError, TypeError: the file holds something else.
    """
    content = json.loads(files.read_bytes(uri))
    return dict(content["provenance"]), [Failure(**failure) for failure in content["failures"]]


def audit_folder(
    plan_uri: str | None, published: Iterable[str], folder: str, provenance_uri: str, threshold: float
) -> Audit:
    """Compare the plan with the shards in `folder`; `published` only makes this step wait for them."""
    del published
    plan = decode_plan(files.read_bytes(plan_uri), plan_uri) if plan_uri else Plan({}, {})
    _, earlier_failures = read_provenance(provenance_uri)
    planned = {ref.img_id for refs in plan.shards.values() for ref in refs}
    dropped_rows = [row for row in earlier_failures if row.stage == IMPORT_STAGE and row.img_id not in planned]
    return audit_shards(plan, read_published(folder, plan), threshold, dropped_rows)


def write_failures(audit: Audit, earlier_failures: Iterable[Failure], path: str) -> None:
    """Publish failures.jsonl: the images' failures in shard order, then those from before the start."""
    lines = (failure.to_line() for failure in (*audit.failures, *earlier_failures))
    # Half a surrogate pair, which a damaged captions file may hold, becomes its JSON escape.
    files.publish_bytes(path, (line.encode("utf-8", "backslashreplace") for line in lines))


def build_manifest(audit: Audit, provenance: Mapping[str, Any], entries: Iterable[ManifestEntry]) -> dict[str, Any]:
    """Compose manifest.json; it holds no time, so that a resumed run writes the same bytes.

    Args:
        audit: what became of the images.
        provenance: what was known before the run: inputs, settings, captions' counts, versions.
        entries: what was written beside the shards.
    """
    listed: dict[str, dict[str, Any]] = {"tfrecord": dict(audit.shards)}
    for section, name, row in sorted(entries, key=lambda entry: entry[:2]):
        listed.setdefault(section, {})[name] = dict(row)
    return {
        "status": "failed" if audit.error else "done",
        "reason": audit.error,
        **provenance,
        "counts": {name: sum(counts[name] for counts in audit.sets.values()) for name in ("in", "written", "failed")},
        "sets": audit.sets,
        "files": listed,
    }


def publish_manifest(
    _: None, audit: Audit, entries: Iterable[ManifestEntry], provenance_uri: str, output: str
) -> Iterator[str]:
    """Write failures.jsonl and manifest.json into `output`; yield the manifest's path."""
    provenance, earlier_failures = read_provenance(provenance_uri)
    write_failures(audit, earlier_failures, files.join(output, FAILURES))
    manifest = build_manifest(audit, provenance, entries)
    path = files.join(output, MANIFEST)
    files.publish_bytes(path, [(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n").encode()])
    yield path


@dataclass
class AuditShards(beam.PTransform):
    """The published shards' names -> one Audit, once all of them are there.

    Attributes:
        plan_uri: the plan's path, None for a run without images.
        folder: where the shards stand.
        provenance_uri: the file of `encode_provenance`.
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
        provenance_uri: the file of `encode_provenance`.
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
