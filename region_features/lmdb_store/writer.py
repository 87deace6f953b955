"""Write LMDB's data.mdb from items: the same bytes for the same items, without unused pages."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from region_features.lmdb_store.reader import DATA_FILE
from region_features.lmdb_store.write_behind import WriteBehind


class LmdbItem(NamedTuple):
    """Key and value of an image; for messages, the shard that it comes from."""

    key: bytes
    value: bytes
    shard: str


class LmdbWriter:
    """Write `folder`/data.mdb in batches; to be entered before, and left after `finish`.

    Args:
        folder: empty, and used by nobody else.
        map_size: upper bound of the file in bytes.
        ascending: whether the keys come in the order of their bytes, which makes the smallest file.

    Raises:
        lmdb.Error: the file cannot be written.
        OSError: writing to the disk failed.
    """

    def __init__(self, folder: str, map_size: int, ascending: bool = True) -> None:
        self._folder, self._map_size, self._ascending = folder, map_size, ascending
        self.keys: list[bytes] = []
        with self._open():
            pass  # create the file
        self._write_behind = WriteBehind(os.path.join(folder, DATA_FILE))

    def __enter__(self) -> LmdbWriter:
        self._write_behind.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, stack: object) -> None:
        self._write_behind.__exit__(kind, error, stack)

    def write(self, batch: Sequence[LmdbItem]) -> None:
        """Write items in one transaction, which is held in memory until its commit.

        Raises:
            ValueError: a key does not come after the one before, or comes a second time; names it and the shard.
        """
        # Reopen for each batch: one lasting map keeps the pages of every transaction, and memory grows.
        with self._open() as env, env.begin(write=True) as transaction:
            for item in batch:
                # py-lmdb returns False, and raises nothing, for a key that does not come last, or is there.
                if not transaction.put(item.key, item.value, append=self._ascending, overwrite=False):
                    raise ValueError(self._refusal(item))
                self.keys.append(item.key)
        self._write_behind.grew(sum(len(item.value) for item in batch))

    def _refusal(self, item: LmdbItem) -> str:
        if self._ascending:
            return (
                f"{item.shard}: expected ascending LMDB keys, got {item.key!r} after {self.keys[-1]!r}; "
                "delete the shard and write it again"
            )
        return f"{item.shard}: two images have the LMDB key {item.key!r}; rename or leave out one of them"

    def finish(self, final_records: Callable[[Sequence[bytes]], Mapping[bytes, bytes]]) -> None:
        """Write the records that are made of all keys, which are given in the order of their bytes."""
        with self._open() as env:
            with env.begin(write=True) as transaction:
                for name, value in final_records(sorted(self.keys)).items():
                    transaction.put(name, value)
            env.sync(True)

    def _open(self) -> Any:
        import lmdb

        return lmdb.open(
            self._folder,
            map_size=self._map_size,
            lock=False,  # one writer, no reader: create no lock.mdb
            readahead=False,
            sync=False,  # `finish` syncs
            metasync=False,
            meminit=True,  # zero unused bytes of a page: equal items, equal files
        )


def map_size_for(shard_bytes: int) -> int:
    """Return an upper bound in bytes of the LMDB that is built from TFRecord shards of `shard_bytes`.

    Base64 takes 4/3 of the raw arrays; rounding a value up to whole pages of 4 KiB at most doubles it; the rest is for
    the tree, the key list and replaced pages. It costs address space only: the file is as large as its content.
    """
    return 3 * shard_bytes + (256 << 20)
