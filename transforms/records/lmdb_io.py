"""Writes LMDB's data.mdb from items in key order, as large as its content and the same for the same items."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import NamedTuple

from transforms.records.lmdb_key import KEYS_RECORD
from transforms.records.volta_codec import PICKLE_PROTOCOL

COMMIT_BYTES = 64 << 20  # a transaction holds its pages in memory until it is committed


class LmdbItem(NamedTuple):
    """One image's key and value, and the shard that it comes from, for messages."""

    key: bytes
    value: bytes
    shard: str


def write_lmdb(
    folder: str,
    batches: Iterable[list[LmdbItem]],
    map_size: int,
    on_commit: Callable[[int], None] | None = None,
) -> int:
    """Writes `folder`/data.mdb: the items, and the record `keys`, the pickled list of their keys.

    Args:
        folder: an empty folder that nobody else uses.
        batches: items in ascending order of key; memory holds COMMIT_BYTES of them and a batch.
        map_size: upper bound of the file in bytes.
        on_commit: called after each commit with the items written so far.

    Returns:
        The number of items.

    Raises:
        ValueError: a key does not come after the one before; names both and the shard.
        lmdb.Error: the file cannot be written.
    """
    import lmdb

    keys: list[bytes] = []
    with lmdb.open(
        folder,
        map_size=map_size,
        lock=False,  # one writer, no reader: no lock.mdb is made
        readahead=False,
        sync=False,
        metasync=False,
        meminit=True,  # no left-overs of memory in the file: equal items, equal bytes
    ) as env:
        transaction, pending = env.begin(write=True), 0
        try:
            for batch in batches:
                for item in batch:
                    # py-lmdb answers False, and raises nothing, for a key that does not come last.
                    if not transaction.put(item.key, item.value, append=True):
                        raise ValueError(
                            f"{item.shard}: expected ascending LMDB keys, got {item.key!r} after {keys[-1]!r}; "
                            "delete the shard and write it again"
                        )
                    keys.append(item.key)
                    pending += len(item.value)
                if pending >= COMMIT_BYTES:
                    transaction.commit()
                    transaction, pending = env.begin(write=True), 0
                    if on_commit:
                        on_commit(len(keys))
            transaction.put(KEYS_RECORD, pickle.dumps(keys, protocol=PICKLE_PROTOCOL))
            transaction.commit()
        except BaseException:
            transaction.abort()
            raise
        env.sync(True)
    if on_commit:
        on_commit(len(keys))
    return len(keys)


def map_size_for(shard_bytes: int) -> int:
    """Gives an upper bound in bytes of the LMDB that TFRecord shards of `shard_bytes` become.

    Base64 makes 4/3 of the raw arrays, and whole pages of 4 KiB at worst twice the example, where a small value just
    misses one page; the rest is for the tree, the key list and replaced pages. Address space only: without a writable
    map the file is as large as its content.
    """
    return 3 * shard_bytes + (256 << 20)
