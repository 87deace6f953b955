"""Write LMDB's data.mdb from items in key order: the same bytes for the same items, without unused pages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from region_features.lmdb_store.reader import DATA_FILE
from region_features.lmdb_store.write_behind import WriteBehind
from region_features.records.key import KEYS_RECORD


class LmdbItem(NamedTuple):
    """Key and value of an image; for messages, the shard that it comes from."""

    key: bytes
    value: bytes
    shard: str


def write_lmdb(
    folder: str,
    batches: Iterable[Sequence[LmdbItem]],
    map_size: int,
    encode_keys: Callable[[Sequence[bytes]], bytes],
    on_commit: Callable[[int], None] | None = None,
) -> int:
    """Write `folder`/data.mdb: the items, and the record `keys`, the list of their keys; return the number of items.

    Args:
        folder: empty, and used by nobody else.
        batches: items in ascending order of key; each batch is one transaction, held in memory until its commit.
        map_size: upper bound of the file in bytes.
        encode_keys: encodes the value of the record `keys`.
        on_commit: called after each batch with the number of items written so far.

    Raises:
        ValueError: a key does not come after the one before; names both and the shard.
        lmdb.Error: the file cannot be written.
        OSError: writing to the disk failed.
    """
    with _open(folder, map_size):
        pass  # create the file
    keys: list[bytes] = []
    with WriteBehind(os.path.join(folder, DATA_FILE)) as write_behind:
        for batch in batches:
            # Reopen for each batch: one lasting map keeps the pages of every transaction, and memory grows.
            with _open(folder, map_size) as env, env.begin(write=True) as transaction:
                for item in batch:
                    # py-lmdb returns False, and raises nothing, for a key that does not come last.
                    if not transaction.put(item.key, item.value, append=True):
                        raise ValueError(
                            f"{item.shard}: expected ascending LMDB keys, got {item.key!r} after {keys[-1]!r}; "
                            "delete the shard and write it again"
                        )
                    keys.append(item.key)
            write_behind.grew(sum(len(item.value) for item in batch))
            if on_commit:
                on_commit(len(keys))
    with _open(folder, map_size) as env:
        with env.begin(write=True) as transaction:
            transaction.put(KEYS_RECORD, encode_keys(keys))
        env.sync(True)
    return len(keys)


def _open(folder: str, map_size: int) -> Any:
    import lmdb

    return lmdb.open(
        folder,
        map_size=map_size,
        lock=False,  # one writer, no reader: create no lock.mdb
        readahead=False,
        sync=False,  # write_lmdb syncs at the end
        metasync=False,
        meminit=True,  # zero unused bytes of a page: equal items, equal files
    )


def map_size_for(shard_bytes: int) -> int:
    """Return an upper bound in bytes of the LMDB that is built from TFRecord shards of `shard_bytes`.

    Base64 takes 4/3 of the raw arrays; rounding a value up to whole pages of 4 KiB at most doubles it; the rest is for
    the tree, the key list and replaced pages. It costs address space only: the file is as large as its content.
    """
    return 3 * shard_bytes + (256 << 20)
