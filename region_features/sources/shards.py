"""Records of one TFRecord shard."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from region_features.formats.example import decode_example
from region_features.formats.tfrecord import read_records
from region_features.reading.shards import index_shard
from region_features.records.failure import Failure
from region_features.records.plan import parse_shard_name
from region_features.records.region_record import RegionRecord
from region_features.sources.base import Place, Source, match_place
from region_features.sources.storage import LOCAL, Storage

_PLACE = re.compile(r"offset=(\d{1,18})")
_RECORD_BYTES = 1 << 20  # hold one record of 36 boxes with all its arrays


class ShardSource(Source):
    """A shard of a run; its ids are read of the stats file beside it, where there is one."""

    kind = "tfrecord"

    def __init__(self, path: str, storage: Storage = LOCAL) -> None:
        super().__init__(path)
        self._storage = storage

    @property
    def default_set(self) -> str:
        """The set in the shard's name."""
        parsed = parse_shard_name(os.path.basename(self.path))
        return parsed[0] if parsed else super().default_set

    def places(self) -> Iterator[Place | Failure]:
        """Read the headers of the records."""
        ids, offsets = index_shard(self.path, self._storage.open)
        for img_id, offset in zip(ids, offsets.tolist(), strict=True):
            yield Place(img_id, f"offset={offset}")

    def read(self, place: str) -> RegionRecord:
        """Read one record."""
        offset = int(match_place(_PLACE, place, self.path, "offset=.., the place of a record in a shard")[1])
        with self._storage.open_piece(self.path, _RECORD_BYTES) as stream:
            stream.seek(offset)
            data = next(read_records(stream, f"{self.path}, from byte {offset} on"), b"")
        return decode_example(data, self.path).record
