"""TSV files for LXMERT and VOLTA's scripts, built from published TFRecord shards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from region_features.formats.example import decode_example
from region_features.formats.tfrecord import read_records
from region_features.formats.tsv import encode_tsv_row
from transforms import files

SOURCE_SUFFIX = ".source.json"


@dataclass(frozen=True)
class TsvJob:
    """What one TSV is built from.

    Attributes:
        output: path or URI of the file.
        shards: the set's shard paths, in order.
        columns: 10 or 13.
        source_digest: hex digest of what it is built from; a TSV that carries it already is left as it is.
    """

    output: str
    shards: tuple[str, ...]
    columns: int
    source_digest: str


@dataclass(frozen=True)
class TsvResult:
    """What was built: path, rows, bytes, and whether it was there already."""

    output: str
    rows: int
    bytes: int
    skipped: bool


def build_tsv(job: TsvJob) -> TsvResult:
    """Write one TSV, a row an image in shard order, under a temporary name until it is whole.

    Raises:
        ValueError: a shard is damaged; names it.
        OSError: a shard is missing, or the file cannot be written.
    """
    source = {"source_digest": job.source_digest, "columns": job.columns}
    if done := _already_built(job, source):
        return done
    # Until the new file is whole the old note must not vouch for it.
    files.delete_files([job.output + SOURCE_SUFFIX])
    rows = _Counted(_encoded_rows(job))
    size = files.publish_bytes(job.output, rows)
    note = json.dumps({**source, "rows": rows.count, "bytes": size})
    files.publish_bytes(job.output + SOURCE_SUFFIX, [(note + "\n").encode()])
    return TsvResult(job.output, rows.count, size, skipped=False)


class _Counted:
    """Counts what passes through an iterator."""

    def __init__(self, rows: Iterator[bytes]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        for row in self._rows:
            self.count += 1
            yield row


def _encoded_rows(job: TsvJob) -> Iterator[bytes]:
    for shard in job.shards:
        with FileSystems.open(shard, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            for data in read_records(stream, shard):
                yield encode_tsv_row(decode_example(data, shard).record, job.columns)


def _already_built(job: TsvJob, source: dict[str, object]) -> TsvResult | None:
    folder, name = FileSystems.split(job.output)
    present = files.list_folder(folder)
    if name not in present or name + SOURCE_SUFFIX not in present:
        return None
    try:
        note = json.loads(files.read_bytes(job.output + SOURCE_SUFFIX))
        rows, size = note.pop("rows"), note.pop("bytes")
    except (ValueError, KeyError, AttributeError, TypeError):
        return None  # torn or foreign: build again
    if note != source or size != present[name]:
        return None
    return TsvResult(job.output, rows, size, skipped=True)


@dataclass
class BuildTsv(beam.PTransform):
    """Builds each TSV of a PCollection of TsvJob and gives their TsvResults."""

    def expand(self, jobs: beam.PCollection) -> beam.PCollection:
        """Spread the jobs over the workers."""
        return (
            jobs
            | "SpreadJobs" >> beam.Reshuffle()  # TsvJob
            | "BuildEach" >> beam.Map(build_tsv)  # TsvResult
        )
