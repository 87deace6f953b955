"""Whole shards of an earlier run that are still true: linked or copied, never rewritten."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import google_crc32c
from apache_beam.io.filesystems import FileSystems

from region_features.planning.shard_inputs import ShardEntry
from region_features.records.stats import STATS_SUFFIX, ShardStats
from transforms import files
from transforms.metrics import IMAGES_DETECTED, count, count_here
from transforms.publication import encode_crc32c, publish_shard
from transforms.shard_inputs import InputFiles, PlainKey, list_copies
from transforms.shards import IMAGES_REUSED, IMAGES_WRITTEN


def copy_shard(entry: ShardEntry, folder: str, settings: Mapping[str, Any]) -> str:
    """Publish a copy of an earlier run's shard under its new name; return that.

    Args:
        entry: which shard, and of which it is a copy.
        folder: where it will stand.
        settings: everything that decides the records' bytes.

    Raises:
        ValueError: the earlier shard is no longer what it was when the run was planned; names it.
        OSError: it cannot be read or copied.
    """
    earlier = entry.copy_of
    stats = ShardStats.from_json(files.read_bytes(earlier + STATS_SUFFIX), earlier + STATS_SUFFIX)
    if stats.inputs != entry.inputs or files.size_of(earlier) != stats.num_bytes:
        raise ValueError(f"{earlier}: expected the shard that the run was planned with, got another; start again")
    path = files.join(folder, entry.key.filename)
    temporary = files.temp_name(path)
    try:
        _copy(earlier, temporary)
        stats = replace(stats, shard=entry.key.filename, settings=dict(settings), reused=len(stats.ids))
        publish_shard(temporary, path, stats)
    except BaseException:
        with contextlib.suppress(Exception):  # the caller should see what stopped the copy
            files.delete_files([temporary])
        raise
    count_here(IMAGES_DETECTED, len(stats.ids))
    count(IMAGES_WRITTEN, len(stats.ids))
    count(IMAGES_REUSED, len(stats.ids))
    return entry.key.filename


def is_damaged(shard: str) -> bool:
    """Return whether a local shard cannot be read, or is not what its stats describe.

    False for a remote one: its storage keeps a checksum, which was compared when its stats were read.
    """
    if files.is_remote(shard):
        return False
    try:
        stats = ShardStats.from_json(files.read_bytes(shard + STATS_SUFFIX), shard + STATS_SUFFIX)
        with open(shard, "rb") as stream:
            crc = 0
            for chunk in files.chunks_of(stream):
                crc = google_crc32c.extend(crc, chunk)
    except (OSError, ValueError):
        return True
    return encode_crc32c(crc) != stats.crc32c


def _copy(source: str, target: str) -> None:
    """Link a local file where its disk can, let a remote file system copy by itself, else copy the bytes."""
    if not files.is_remote(target):
        os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
    if FileSystems.get_scheme(source) == FileSystems.get_scheme(target) is not None:
        FileSystems.copy([source], [target])
        return
    if not files.is_remote(source) and not files.is_remote(target):
        with contextlib.suppress(OSError):  # another disk, or one without hard links
            os.link(source, target)
            return
    with files.open_stream(source) as stream, FileSystems.create(target) as copy:
        shutil.copyfileobj(stream, copy, 4 << 20)


@dataclass
class CopyShards(beam.PTransform):
    """A pipeline's begin -> names of the published copies of an earlier run's shards.

    Attributes:
        inputs: the files that name them.
        folder: where they go.
        settings: everything that decides the records' bytes.
    """

    inputs: InputFiles
    folder: str
    settings: Mapping[str, Any]

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        """List, spread over the workers, copy."""

        def copy_all(element: tuple[PlainKey, Iterable[ShardEntry]]) -> Iterator[str]:
            return (copy_shard(entry, self.folder, dict(self.settings)) for entry in element[1])

        return (
            begin
            | "Entries" >> beam.Create([self.inputs.entries])
            | "ListCopies" >> beam.FlatMap(list_copies)  # (shard, ShardEntry)
            | "SpreadCopies" >> beam.GroupByKey()  # (shard, [ShardEntry])
            | "CopyShard" >> beam.FlatMap(copy_all)  # shard name
        )
