"""A shard and its stats are published so that stats never vouch for another attempt's shard.

Two attempts at one shard may publish at a time: a runner starts a second one when it takes the first for dead. On a
local disk a lock lets one in at a time. On gs:// the object's checksum tells whose shard stands.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
from collections.abc import Iterator

from apache_beam.io.filesystems import FileSystems

from region_features.records.stats import STATS_SUFFIX, ShardStats
from transforms import files
from transforms.durable import rename_whole


def encode_crc32c(value: int) -> str:
    """Encode a CRC-32C as gs:// shows that of an object."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def stored_crc32c(path: str) -> str | None:
    """Return the CRC-32C of a file from its file system's own records; None where there is none."""
    return FileSystems.get_filesystem(path).checksum(path) if FileSystems.get_scheme(path) == "gs" else None


def vouches_for(stats: ShardStats, path: str) -> bool:
    """Return whether the shard that stands at `path` is the one that the stats describe, where its storage can tell."""
    return stored_crc32c(path) in (None, stats.crc32c)


def publish_shard(temporary: str, path: str, stats: ShardStats) -> None:
    """Give a shard its name, then publish its stats: a crash between the two leaves a shard that is redone.

    Raises:
        OSError: it cannot be written, or another attempt at the shard came in between; that of the caller is to be
            repeated.
    """
    with _one_at_a_time(FileSystems.split(path)[0]):
        # The old stats must not vouch for the new shard.
        files.delete_files([path + STATS_SUFFIX])
        rename_whole(temporary, path)
        files.publish_bytes(path + STATS_SUFFIX, [stats.to_json()])
        if not vouches_for(stats, path):
            raise OSError(f"{path}: another attempt at this shard was published at the same time; it is made again")


@contextlib.contextmanager
def _one_at_a_time(folder: str) -> Iterator[None]:
    """Hold the lock of a local folder; the folder itself is locked, so that no file is left of it."""
    if files.is_remote(folder):
        yield
        return
    descriptor = os.open(folder or ".", os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network disks have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
