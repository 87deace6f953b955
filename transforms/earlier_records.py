"""Records of an earlier run, taken over by this one: each of its shards is read once, in order."""

from __future__ import annotations

import threading
from collections.abc import Generator

from region_features.allocation import keep_freed_blocks
from region_features.formats.example import retell
from region_features.records.item import CaptionedImage, EarlierRecord, TakenRecord
from transforms.shards import read_shard


class _ShardReader:
    """Gives the records of a shard by their positions, which are asked for about in order, by several threads."""

    def __init__(self, path: str, wanted: set[int]) -> None:
        self._path, self._wanted = path, wanted
        self._lock = threading.Lock()
        self._passed: dict[int, bytes] = {}
        self._records: Generator[bytes, None, None] | None = None
        self._position = 0

    def take(self, position: int) -> bytes | None:
        """Return a record, once; None where the shard is damaged before its end."""
        with self._lock:
            if self._records is None:
                self._records = read_shard(self._path)
            while position not in self._passed:
                try:
                    data = next(self._records, None)
                except (OSError, ValueError):
                    data = None
                if data is None:
                    break
                if self._position in self._wanted:
                    self._passed[self._position] = data
                self._position += 1
            self._wanted.discard(position)
            if not self._wanted:
                self._records.close()  # a bundle may hold thousands of shards
            return self._passed.pop(position, None)


class EarlierShards:
    """The shards of an earlier run that the open shards take records from."""

    def __init__(self) -> None:
        keep_freed_blocks()
        self._readers: dict[tuple[str, str], _ShardReader] = {}

    def add(self, shard: str, images: list[CaptionedImage]) -> None:
        """Name the images of a shard, of which those with an earlier record are going to be asked for."""
        wanted: dict[str, set[int]] = {}
        for image in images:
            if image.earlier:
                wanted.setdefault(image.earlier.shard, set()).add(image.earlier.position)
        for path, positions in wanted.items():
            self._readers[shard, path] = _ShardReader(path, positions)

    def take(self, shard: str, image: CaptionedImage, earlier: EarlierRecord) -> tuple[str, TakenRecord] | None:
        """Return the SHA-256 of the image that a record is of, and the record with the captions of `image`.

        Return None where the record cannot be read, or is of another image: then it is computed.
        """
        data = self._readers[shard, earlier.shard].take(earlier.position)
        if data is None:
            return None
        told = (image.captions.sentences, image.captions.sentence_ids, image.captions.split) if image.captions else None
        try:
            img_id, sha256, data = retell(data, earlier.shard, *(told or ((), (), "")))
        except ValueError:
            return None
        if img_id != image.ref.img_id or (earlier.sha256 and sha256 != earlier.sha256):
            return None
        return sha256, TakenRecord(data)
