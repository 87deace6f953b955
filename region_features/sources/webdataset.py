"""Records of one tar of a WebDataset, as `--outputs webdataset` writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from region_features.formats.safetensors import decode_record
from region_features.formats.webdataset import ARRAYS, find_members, key_of_sample
from region_features.records.failure import Failure
from region_features.records.region_record import RegionRecord
from region_features.sources.base import Place, Source, match_place
from region_features.sources.storage import LOCAL, Storage

_PLACE = re.compile(r"offset=(\d{1,18})&length=(\d{1,9})")


class TarSource(Source):
    """A tar with a file `KEY.safetensors` an image, which holds its id, size and arrays."""

    kind = "webdataset"

    def __init__(self, path: str, storage: Storage = LOCAL) -> None:
        super().__init__(path)
        self._storage = storage

    def places(self) -> Iterator[Place | Failure]:
        """Read the headers of the files in the tar."""
        with self._storage.open(self.path) as stream:
            for member in find_members(stream, self.path):
                key, _, suffix = member.name.partition(".")
                if suffix == ARRAYS:
                    yield Place(key_of_sample(key), f"offset={member.offset}&length={member.size}", member.size)

    def read(self, place: str) -> RegionRecord:
        """Read one file of the tar."""
        found = match_place(_PLACE, place, self.path, "offset=..&length=.., the place of a file in a tar")
        length = int(found[2])
        with self._storage.open_piece(self.path, length) as stream:
            stream.seek(int(found[1]))
            data = stream.read(length)
        return decode_record(data, f"{self.path}, from byte {found[1]} on")
