"""The stats file beside each shard: its contents, and the mark that it was written completely."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from region_features.records.failure import Failure
from region_features.records.health_sample import NO_SAMPLE, HealthSample
from region_features.records.json_text import parse_json

STATS_SUFFIX = ".stats.json"


@dataclass(frozen=True)
class ShardStats:
    """The content of a complete shard."""

    shard: str  # its file name
    settings: Mapping[str, Any]  # decide the records' bytes, see `Plan`
    inputs: str  # `input_digest` of the planned images
    ids: tuple[str, ...]  # img_ids of the records, in file order
    image_sha256: Mapping[str, str]  # img_id -> hex digest of the encoded image, where one was read, of failures too
    failures: tuple[Failure, ...]  # the planned images without a record, in LMDB key order
    reused: int  # records that an earlier run computed
    num_bytes: int
    sha256: str  # hex digest of the shard
    crc32c: str  # of the shard, base64 as object stores show it
    health: HealthSample = NO_SAMPLE  # of records spread evenly over the shard

    def to_json(self) -> bytes:
        """Encode the stats file."""
        counts = {"written": len(self.ids), "failed": len(self.failures)}
        return (json.dumps({**asdict(self), "counts": counts}, ensure_ascii=False, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, source: str) -> ShardStats:
        """Decode a stats file; a ValueError names `source`, the file, if it is none."""
        try:
            row = parse_json(data)
            del row["counts"]
            ids = tuple(row.pop("ids"))
            failures = tuple(Failure(**item) for item in row.pop("failures"))
            health = HealthSample.from_row(row.pop("health", {}))
            stats = cls(ids=ids, failures=failures, health=health, **row)
            stats._check_types()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{source}: expected a shard's stats, got something else ({error}); delete it to have the shard redone"
            ) from error
        return stats

    def _check_types(self) -> None:
        texts = [self.shard, self.inputs, self.sha256, self.crc32c, *self.ids, *self.image_sha256.values()]
        texts += [text for failure in self.failures for text in asdict(failure).values()]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a field that is no text")
        if not isinstance(self.settings, dict) or type(self.num_bytes) is not int:
            raise TypeError("settings or num_bytes of another type")
