"""LMDB folders, VOLTA's among them, built from published TFRecord shards.

A reader thread merges the sets' shards by key and encodes; the calling thread appends and commits. The folder appears
under its name only when it is whole.
"""

from __future__ import annotations

import errno
import heapq
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from region_features.background import in_background
from region_features.formats.example import decode_example
from region_features.formats.tfrecord import read_records
from region_features.lmdb_store.folder_swap import swapped_folder, tidy_after_kill
from region_features.lmdb_store.open import DATA_FILE
from region_features.lmdb_store.value_codecs import SOURCE_FILE, VALUE_CODECS, VOLTA
from region_features.lmdb_store.writer import LmdbItem, map_size_for, write_lmdb
from region_features.records.key import lmdb_key
from region_features.records.region_record import RegionRecord
from transforms import files, metrics

BATCH_BYTES = 8 << 20  # encoded records that pass from thread to thread at once
BATCHES_AHEAD = 2
_COPY_BYTES = 16 << 20


@dataclass(frozen=True)
class LmdbJob:
    """What one LMDB is built from.

    Attributes:
        name: the LMDB's name, `trainval`.
        output: path or URI of the folder, `.../trainval_feat.lmdb`.
        shards: per set, the set's shard paths in order; each set is one run of ascending LMDB keys.
        source_digest: hex digest of what it is built from; an LMDB of this form and digest is left as it is.
        form: of its values, one of lmdb_forms.VALUE_CODECS.
    """

    name: str
    output: str
    shards: tuple[tuple[str, ...], ...]
    source_digest: str
    form: str = VOLTA


@dataclass(frozen=True)
class LmdbResult:
    """What was built: image records without the key list, bytes of `data.mdb`, whether it was there, the form."""

    name: str
    output: str
    records: int
    bytes: int
    skipped: bool
    form: str = VOLTA


class Entry(NamedTuple):
    """One image on its way from a shard."""

    key: bytes
    shard: str
    record: RegionRecord


def read_set(shards: Iterable[str]) -> Iterator[Entry]:
    """Reads one set's shards, one after the other.

    Raises:
        ValueError: a shard is damaged; names it.
    """
    for shard in shards:
        with FileSystems.open(shard, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            for data in read_records(stream, shard):
                record = decode_example(data, shard).record
                yield Entry(lmdb_key(record.img_id), shard, record)


def in_key_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Passes entries on as long as their keys ascend.

    Raises:
        ValueError: two images have one key, or a key comes too late; names both images and shards.
    """
    last: Entry | None = None
    for entry in entries:
        if last is not None and entry.key <= last.key:
            both = (
                f"image {last.record.img_id} ({last.shard}) has LMDB key {last.key!r} and after it "
                f"image {entry.record.img_id} ({entry.shard}) {entry.key!r}"
            )
            if entry.key == last.key:
                raise ValueError(f"expected one image a key: {both}; rename or leave out one of the two images")
            raise ValueError(f"expected ascending keys in bytes' order: {both}; delete the shard and write it again")
        last = entry
        yield entry


def merge_sets(shards: Iterable[Iterable[str]]) -> Iterator[Entry]:
    """Merges the sets by key, holding one record of each.

    Raises:
        ValueError: see `in_key_order`.
    """
    return in_key_order(heapq.merge(*(in_key_order(read_set(one)) for one in shards), key=_entry_key))


def _entry_key(entry: Entry) -> bytes:
    return entry.key


def encoded_batches(entries: Iterable[Entry], encode: Callable[[RegionRecord], bytes]) -> Iterator[list[LmdbItem]]:
    """Encodes entries, in lists of about BATCH_BYTES."""
    batch: list[LmdbItem] = []
    size = 0
    for entry in entries:
        batch.append(LmdbItem(entry.key, encode(entry.record), entry.shard))
        size += len(batch[-1].value)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


def build_lmdb(job: LmdbJob, on_progress: Callable[[int], None] | None = None) -> LmdbResult:
    """Builds one LMDB folder: `data.mdb`, and `source.json` that says what it was built from.

    The same shards give the same bytes of `data.mdb`. Of two builds of one local output at a time the later one removes
    what the earlier one has begun, which then fails.

    Args:
        job: what to build and where.
        on_progress: called after each commit with the records done so far.

    Raises:
        ValueError: a shard is damaged, out of order, or two images have one key; names shard and images.
        OSError: a shard is missing, or the LMDB cannot be written; names the path and the space needed.
    """
    remote = files.is_remote(job.output)
    if not remote:
        tidy_after_kill(job.output)
    if done := _already_built(job):
        return done
    # LMDB needs a local disk: what goes elsewhere is built here and uploaded.
    with tempfile.TemporaryDirectory() if remote else swapped_folder(job.output) as folder:
        records = _write_data(job, folder, on_progress)
        size = os.path.getsize(os.path.join(folder, DATA_FILE))
        source = {"source_digest": job.source_digest, "form": job.form, "records": records, "data_bytes": size}
        Path(folder, SOURCE_FILE).write_text(json.dumps(source) + "\n", encoding="utf-8")
        if remote:
            _upload(folder, job.output)
    return LmdbResult(job.name, job.output, records, size, skipped=False, form=job.form)


@dataclass
class BuildLmdb(beam.PTransform):
    """Builds each LMDB of a PCollection of LmdbJob and gives their LmdbResults; counts `lmdb_records_written`."""

    def expand(self, jobs: beam.PCollection[LmdbJob]) -> beam.PCollection[LmdbResult]:
        """Spreads the jobs over the workers."""
        return (
            jobs
            | "SpreadJobs" >> beam.Reshuffle()  # LmdbJob
            | "BuildEach" >> beam.Map(_build_counted)  # LmdbResult
        )


def _build_counted(job: LmdbJob) -> LmdbResult:
    counted = 0

    def count(done: int) -> None:
        nonlocal counted
        metrics.count("lmdb_records_written", done - counted)
        counted = done

    return build_lmdb(job, count)


def _already_built(job: LmdbJob) -> LmdbResult | None:
    present = files.list_folder(job.output)
    if DATA_FILE not in present or SOURCE_FILE not in present:
        return None
    try:
        source = json.loads(files.read_bytes(files.join(job.output, SOURCE_FILE)))
        digest, records, size = source["source_digest"], source["records"], source["data_bytes"]
        form = source.get("form", VOLTA)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # torn or foreign: build again
    if (digest, form) != (job.source_digest, job.form) or size != present[DATA_FILE]:
        return None
    return LmdbResult(job.name, job.output, records, size, skipped=True, form=job.form)


def _write_data(job: LmdbJob, folder: str, on_progress: Callable[[int], None] | None) -> int:
    import lmdb

    # glibc hands blocks of a record's size back to the kernel on every free, and the page faults of the next ones cost
    # several times the encoding, until it has seen a larger block freed.
    bytearray(24 << 20)
    shard_bytes = 0
    for shard in (shard for one in job.shards for shard in one):
        if not FileSystems.exists(shard):
            raise FileNotFoundError(f"LMDB {job.output}: expected the shard {shard}, got nothing; write it again")
        shard_bytes += FileSystems.get_filesystem(shard).size(shard)
    encoded = encoded_batches(merge_sets(job.shards), VALUE_CODECS[job.form].encode)
    try:
        with closing(in_background(encoded, BATCHES_AHEAD)) as batches:
            return write_lmdb(
                folder, batches, map_size_for(shard_bytes), VALUE_CODECS[job.form].encode_keys, on_progress
            )
    except lmdb.Error as error:
        raise OSError(
            errno.ENOSPC,
            f"LMDB {job.output}: expected room for about {shard_bytes * 3 // 2:,} bytes in {os.path.dirname(folder)}, "
            f"got {error} and {shutil.disk_usage(folder).free:,} bytes free; free some or choose another place",
        ) from error


def _upload(folder: str, output: str) -> None:
    """Uploads the files; source.json, without which nothing is skipped, goes first and comes last."""
    present = files.list_folder(output)
    left = [name for name in present if name.startswith(files.TEMP_PREFIX)]
    files.delete_files(files.join(output, name) for name in [SOURCE_FILE, *left])
    for name in (DATA_FILE, SOURCE_FILE):
        files.publish_bytes(files.join(output, name), _chunks(os.path.join(folder, name)))


def _chunks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as stream:
        while chunk := stream.read(_COPY_BYTES):
            yield chunk
