"""The images of each shard to do, with what accompanies them, as they were joined before the graph started."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import apache_beam as beam

from region_features.planning.shard_inputs import ShardEntry, decode_images
from region_features.records.item import CaptionedImage
from region_features.records.plan import ShardKey
from transforms import files


class InputFiles(NamedTuple):
    """The two files that say what is to be done; they stand in the output folder while the run goes on.

    Attributes:
        entries: of the shards.
        images: of the shards that are read.
    """

    entries: str
    images: str


# Beam has a deterministic coder for a plain tuple, which grouping needs, but none for a NamedTuple.
PlainKey = tuple[str, int, int, int]


def list_shards(entries: str) -> Iterator[tuple[PlainKey, ShardEntry]]:
    """Yield each shard that is to be made of its images."""
    for entry in _entries(entries):
        if not entry.copy_of:
            yield _plain(entry.key), entry


def list_copies(entries: str) -> Iterator[tuple[PlainKey, ShardEntry]]:
    """Yield each shard that is a copy of an earlier run's."""
    for entry in _entries(entries):
        if entry.copy_of:
            yield _plain(entry.key), entry


def _plain(key: ShardKey) -> PlainKey:
    return key.set_name, key.number, key.of, key.num_images


def _entries(uri: str) -> Iterator[ShardEntry]:
    return map(ShardEntry.from_line, io.BytesIO(files.read_bytes(uri)))


def read_images(
    element: tuple[PlainKey, Iterator[ShardEntry]], images: str
) -> Iterator[tuple[PlainKey, list[CaptionedImage]]]:
    """Yield a shard with its images, in LMDB key order."""
    shard, entries = element
    for entry in entries:
        with files.open_stream(images) as stream:
            stream.seek(entry.offset)
            data = stream.read(entry.length)
        yield shard, list(decode_images(io.BytesIO(data)))


@dataclass
class ReadShardInputs(beam.PTransform):
    """A pipeline's begin -> (shard, [CaptionedImage]) of each shard that is to be made of its images.

    Attributes:
        inputs: where they stand.
    """

    inputs: InputFiles

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        """List the shards, spread them over the workers, read the images of each."""
        return (
            begin
            | "Entries" >> beam.Create([self.inputs.entries])
            | "ListShards" >> beam.FlatMap(list_shards)  # (shard, ShardEntry)
            | "SpreadShards" >> beam.GroupByKey()  # (shard, [ShardEntry])
            | "ReadImages" >> beam.FlatMap(read_images, self.inputs.images)  # (shard, [CaptionedImage])
        )
