"""One pass over a shard: checksums, records, and the same records in the LMDB."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_pipeline.output_folder import Shard
from region_features.formats.annotations import caption_digest
from region_features.formats.example import ImageExample, decode_example
from region_features.formats.tfrecord import read_records
from region_features.lmdb_store.reader import LmdbReader
from region_features.records.key import lmdb_key
from region_features.records.region_record import RegionRecord
from region_features.validation.captions import CaptionedId
from region_features.validation.record import Problem, check_record, differing_fields

_CHUNK = 4 << 20


@dataclass
class Finding:
    """What one shard holds and what is wrong with it.

    Attributes:
        shard: file name.
        set_name: its set.
        whole: whether all of it could be read.
        ids: of its records, in order.
        widths: the feature widths D that occur -> an image that has it.
        captioned: the images with captions.
        bare: ids of the images without.
        problems: in the order in which they were found.
    """

    shard: str
    set_name: str
    whole: bool = True
    ids: list[str] = field(default_factory=list)
    widths: dict[int, str] = field(default_factory=dict)
    captioned: list[CaptionedId] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class _Hashed:
    """A stream that hashes and counts what is read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.num_bytes = 0

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        self.num_bytes += len(data)
        return data


class Copy(Protocol):
    """What holds a shard's records a second time."""

    def check(self, record: RegionRecord, shard: str) -> Iterator[Problem]:
        """The image's copy is its record."""


def verify_shard(shard: Shard, path: str, lmdb: LmdbReader | None, tsv: Copy | None, max_boxes: int | None) -> Finding:
    """Read a shard once and look at everything in it.

    Args:
        shard: which.
        path: where it stands.
        lmdb, tsv: what must hold its records too; None where there is none to compare with.
        max_boxes: most boxes that an image may have, None where that is not known.
    """
    found = Finding(shard.name, shard.set_name)
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            hashed = _Hashed(stream)
            try:
                for data in read_records(hashed, shard.name):
                    found.problems.extend(_look_at(decode_example(data, shard.name), found, lmdb, tsv, max_boxes))
            except ValueError as error:
                found.whole = False
                found.problems.append(Problem("shard", str(error)))
                while hashed.read(_CHUNK):
                    pass
    except OSError as error:
        found.whole = False
        found.problems.append(Problem("shard", f"{shard.name}: cannot be read: {error}"))
        return found
    found.problems.extend(_against_stats(shard, found, hashed.num_bytes, hashed.digest.hexdigest()))
    return found


def _look_at(
    example: ImageExample, found: Finding, lmdb: LmdbReader | None, tsv: Copy | None, max_boxes: int | None
) -> Iterator[Problem]:
    record = example.record
    found.ids.append(record.img_id)
    if record.num_boxes:
        found.widths.setdefault(record.features.shape[1], record.img_id)
    if example.split:
        digest = caption_digest(example.captions)
        found.captioned.append(CaptionedId(found.shard, record.img_id, example.split, digest))
    else:
        found.bare.append(record.img_id)
    yield from check_record(record, found.shard, max_boxes)
    if lmdb:
        yield from _in_lmdb(record, found.shard, lmdb)
    if tsv:
        yield from tsv.check(record, found.shard)


def _in_lmdb(record: RegionRecord, shard: str, lmdb: LmdbReader) -> Iterator[Problem]:
    try:
        key = lmdb_key(record.img_id)
        stored = lmdb.read(key)
    except ValueError as error:
        yield Problem("lmdb", str(error))
        return
    if stored is None:
        yield Problem("lmdb", f"{lmdb.path}: expected key {key.decode()!r} for {record.img_id} of {shard}, found none")
    elif names := differing_fields(lmdb.codec.kept(record), stored):
        where = f"{lmdb.path}, key {key.decode()!r}"
        yield Problem("lmdb", f"{where}: not the record of {record.img_id} in {shard}: {', '.join(names)} differ")


def _against_stats(shard: Shard, found: Finding, num_bytes: int, sha256: str) -> Iterator[Problem]:
    stats = shard.stats
    if stats is None:
        return
    if num_bytes != stats.num_bytes:
        yield Problem("shard", f"{shard.name}: expected {stats.num_bytes} bytes as its stats say, got {num_bytes}")
    elif sha256 != stats.sha256:
        yield Problem("shard", f"{shard.name}: expected sha256 {stats.sha256} as its stats say, got {sha256}")
    if found.whole and tuple(found.ids) != stats.ids:
        extra, lost = set(found.ids) - set(stats.ids), set(stats.ids) - set(found.ids)
        named = f"; {min(extra | lost)} for one" if extra | lost else ""
        yield Problem(
            "shard",
            f"{shard.name}: expected the {len(stats.ids)} images of its stats, got {len(found.ids)} records: "
            f"{len(lost)} are missing, {len(extra)} are strange{named}",
        )
