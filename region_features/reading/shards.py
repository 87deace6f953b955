"""Random access to the records of TFRecord shards by position, id or LMDB key."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from region_features.formats.example import ImageExample, decode_example
from region_features.formats.tfrecord import read_records, record_offsets
from region_features.records.key import lmdb_key
from region_features.records.stats import STATS_SUFFIX, ShardStats

_AMBIGUOUS = -1


def _open_unbuffered(path: str) -> BinaryIO:
    return open(path, "rb", buffering=0)


def index_shard(
    path: str, open_file: Callable[[str], BinaryIO] = _open_unbuffered
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the ids and byte offsets of a shard's records, in file order.

    12 bytes per record are read if a stats file lists the ids, else the whole shard.

    Args:
        path: of the shard.
        open_file: opens it and its stats file.

    Raises:
        ValueError: the shard is damaged, or differs from its stats file.
        OSError: the shard or its stats file cannot be read.
    """
    with open_file(path) as stream:
        size = stream.seek(0, os.SEEK_END)
        offsets = np.array(list(record_offsets(stream, size, path)), np.int64)
        try:
            with open_file(path + STATS_SUFFIX) as described:
                stats = ShardStats.from_json(described.read(), path + STATS_SUFFIX)
        except FileNotFoundError:
            stream.seek(0)
            return tuple(decode_example(data, path).record.img_id for data in read_records(stream, path)), offsets
    if size != stats.num_bytes or len(offsets) != len(stats.ids):
        raise ValueError(
            f"{path}: expected {len(stats.ids)} records in {stats.num_bytes} bytes as its stats file says, "
            f"got {len(offsets)} in {size}; fetch the shard again, or run the pipeline again"
        )
    return stats.ids, offsets


class ShardReader:
    """Reader of local shards: indexes them once, pickles with the index, and keeps no file open between reads.

    Positions count through the shards in the order of `paths`. Errors as in `index_shard`.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = [os.path.abspath(path) for path in paths]
        ids, offsets = zip(*map(index_shard, self._paths), strict=True)
        self._ids = tuple(chain.from_iterable(ids))
        self._offsets = np.concatenate(offsets)
        self._shards = np.repeat(np.arange(len(ids)), [len(shard_ids) for shard_ids in ids])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("keys", "_positions")}

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The LMDB keys of all images as text, by position."""
        return tuple(lmdb_key(img_id).decode() for img_id in self._ids)

    @cached_property
    def _positions(self) -> dict[str, int]:
        """Id or LMDB key -> position, _AMBIGUOUS if images of several sets share it; ids go before equal keys."""
        positions: dict[str, int] = {}
        for names in (self._ids, self.keys):
            taken = frozenset(positions)
            for position, name in enumerate(names):
                if name not in taken:
                    positions[name] = _AMBIGUOUS if name in positions else position
        return positions

    def read_at(self, position: int) -> ImageExample:
        """Read the image at a position from 0; ValueError if it is damaged, or its shard was replaced meanwhile."""
        path, offset = self._paths[self._shards[position]], int(self._offsets[position])
        # Opening the file for each read is safe in forks, threads and pickles, and takes about 1% of the read.
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
        """Read the image of an id or LMDB key.

        Raises:
            KeyError: no image has this id or key, or images of several sets have it.
            ValueError: as `read_at`.
        """
        position = self._positions.get(name)
        if position is None:
            raise KeyError(f"{self._where}: no image {name!r}")
        if position == _AMBIGUOUS:
            raise KeyError(f"{self._where}: several sets have an image {name!r}; name one set's shards by a glob")
        return self.read_at(position)

    def has(self, name: str) -> bool:
        """Return whether exactly one image has this id or LMDB key."""
        return self._positions.get(name, _AMBIGUOUS) != _AMBIGUOUS

    @property
    def _where(self) -> str:
        return f"{os.path.dirname(self._paths[0])} ({len(self._paths)} shards)"
