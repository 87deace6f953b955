"""The stats file beside each shard: what the shard holds, and the mark that it is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from region_features.records.failure import Failure

STATS_SUFFIX = ".stats.json"


@dataclass(frozen=True)
class ShardStats:
    """What a published shard holds; its stats file is the mark that the shard is whole.

    Attributes:
        shard: file name of the shard.
        settings: everything that decides the records' bytes.
        inputs: digest of the ids, URIs and sizes of the images it was made of.
        ids: img_ids written, in file order.
        failures: images that gave no record, in key order.
        num_bytes: size of the shard.
        sha256: of the shard, hex.
    """

    shard: str
    settings: Mapping[str, Any]
    inputs: str
    ids: tuple[str, ...]
    failures: tuple[Failure, ...]
    num_bytes: int
    sha256: str

    def to_json(self) -> bytes:
        """The stats file's content."""
        counts = {"written": len(self.ids), "failed": len(self.failures)}
        return (json.dumps({**asdict(self), "counts": counts}, ensure_ascii=False, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, source: str) -> ShardStats:
        """Read a stats file.

        Raises:
            ValueError: `source` is not one.
        """
        try:
            row = json.loads(data)
            del row["counts"]
            ids, failures = tuple(row.pop("ids")), tuple(Failure(**item) for item in row.pop("failures"))
            return cls(ids=ids, failures=failures, **row)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{source}: expected a shard's stats, got something else ({error}); delete it to have the shard redone"
            ) from error
