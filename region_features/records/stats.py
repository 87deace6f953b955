"""The stats file beside each shard: its contents, and the mark that it was written completely."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from region_features.records.failure import Failure

STATS_SUFFIX = ".stats.json"


@dataclass(frozen=True)
class ShardStats:
    """The content of a complete shard."""

    shard: str  # its file name
    settings: Mapping[str, Any]  # decide the records' bytes, see `Plan`
    inputs: str  # `input_digest` of the planned images
    ids: tuple[str, ...]  # img_ids of the records, in file order
    image_sha256: tuple[str, ...]  # hex digest of the encoded image of each; empty of imported records
    failures: tuple[Failure, ...]  # the planned images without a record, in LMDB key order
    num_bytes: int
    sha256: str  # hex digest of the shard
    crc32c: str  # of the shard, base64 as object stores show it

    def to_json(self) -> bytes:
        """Encode the stats file."""
        counts = {"written": len(self.ids), "failed": len(self.failures)}
        return (json.dumps({**asdict(self), "counts": counts}, ensure_ascii=False, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, source: str) -> ShardStats:
        """Decode a stats file; a ValueError names `source`, the file, if it is none."""
        try:
            row = json.loads(data)
            del row["counts"]
            ids, images = tuple(row.pop("ids")), tuple(row.pop("image_sha256"))
            failures = tuple(Failure(**item) for item in row.pop("failures"))
            return cls(ids=ids, image_sha256=images, failures=failures, **row)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{source}: expected a shard's stats, got something else ({error}); delete it to have the shard redone"
            ) from error
