"""Records by position or id out of TFRecord shards, through an index of byte offsets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from region_features.formats.example import ImageExample, decode_example
from region_features.formats.record_offsets import record_offsets
from region_features.formats.tfrecord import read_records
from region_features.records.key import lmdb_key
from region_features.records.stats import STATS_SUFFIX, ShardStats

_AMBIGUOUS = -1


class RecordIndex(NamedTuple):
    """The images of one shard: their ids, and the byte at which each one's record begins (int64)."""

    ids: tuple[str, ...]
    offsets: NDArray[np.int64]


def index_shard(path: str) -> RecordIndex:
    """Finds where each record of a shard begins, from 12 bytes a record where a stats file names the ids.

    Without a stats file the whole shard is read.

    Raises:
        ValueError: the shard is damaged, or differs from its stats file.
        OSError: it cannot be read.
    """
    with open(path, "rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        stats = _read_stats(path)
        offsets = np.array(list(record_offsets(stream, size, path)), np.int64)
        if stats is None:
            stream.seek(0)
            ids = tuple(decode_example(data, path).record.img_id for data in read_records(stream, path))
            return RecordIndex(ids, offsets)
    if size != stats.num_bytes or len(offsets) != len(stats.ids):
        raise ValueError(
            f"{path}: expected {len(stats.ids)} records in {stats.num_bytes} bytes as its stats file says, "
            f"got {len(offsets)} in {size}; fetch the shard again, or run the pipeline again"
        )
    return RecordIndex(stats.ids, offsets)


def _read_stats(path: str) -> ShardStats | None:
    try:
        with open(path + STATS_SUFFIX, "rb") as stream:
            return ShardStats.from_json(stream.read(), path + STATS_SUFFIX)
    except FileNotFoundError:
        return None


class ShardReader:
    """Local shards; the index is made once and travels with the instance. Nothing stays open between reads.

    Args:
        paths: the shards, in order.

    Raises:
        ValueError, OSError: see `index_shard`.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = [os.path.abspath(path) for path in paths]
        indexes = [index_shard(path) for path in self._paths]
        self._ids = tuple(img_id for index in indexes for img_id in index.ids)
        self._offsets = np.concatenate([index.offsets for index in indexes])
        self._shards = np.repeat(np.arange(len(indexes)), [len(index.ids) for index in indexes])

    def __getstate__(self) -> dict[str, Any]:
        made_anew = {"keys", "_positions"}
        return {name: value for name, value in vars(self).items() if name not in made_anew}

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The images' LMDB keys, by position."""
        return tuple(lmdb_key(img_id).decode() for img_id in self._ids)

    @cached_property
    def _positions(self) -> dict[str, int]:
        """Id, or key that is no id -> position; _AMBIGUOUS where images of several sets share it."""
        found: dict[str, int] = {}
        for position, img_id in enumerate(self._ids):
            found[img_id] = _AMBIGUOUS if img_id in found else position
        ids = set(self._ids)
        for position, key in enumerate(self.keys):
            if key not in ids:
                found[key] = _AMBIGUOUS if key in found else position
        return found

    def read_at(self, position: int) -> ImageExample:
        """See `region_features.Source`."""
        path, offset = self._paths[self._shards[position]], int(self._offsets[position])
        # A path opened for each read is safe in forks, threads and pickles; it costs about a hundredth of the read.
        with open(path, "rb", buffering=0) as stream:
            stream.seek(offset)
            data = next(read_records(stream, f"{path}, from byte {offset} on"), b"")
        example = decode_example(data, path)
        if example.record.img_id != self._ids[position]:
            raise ValueError(
                f"{path}: expected image {self._ids[position]} at byte {offset}, got {example.record.img_id}; "
                "the shard was replaced: make a new RegionFeatures"
            )
        return example

    def read_named(self, name: str) -> ImageExample:
        """See `region_features.Source`."""
        position = self._positions.get(name)
        if position is None:
            raise KeyError(f"{self._where}: no image {name!r}")
        if position == _AMBIGUOUS:
            raise KeyError(f"{self._where}: several sets have an image {name!r}; name one set's shards by a glob")
        return self.read_at(position)

    def has(self, name: str) -> bool:
        """See `region_features.Source`."""
        return self._positions.get(name, _AMBIGUOUS) != _AMBIGUOUS

    @property
    def _where(self) -> str:
        return f"{os.path.dirname(self._paths[0])} ({len(self._paths)} shards)"
