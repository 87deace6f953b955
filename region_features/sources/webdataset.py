"""Records of one tar of a WebDataset, as `--outputs webdataset` writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from region_features.formats.safetensors import decode_record
from region_features.formats.webdataset import ARRAYS, find_members, key_of_sample
from region_features.records.failure import Failure
from region_features.records.region_record import RegionRecord
from region_features.sources.base import Place, Source, match_place

_PLACE = re.compile(r"offset=(\d+)&length=(\d+)")


class TarSource(Source):
    """A tar with a file `KEY.safetensors` an image, which holds its id, size and arrays."""

    kind = "webdataset"

    def places(self) -> Iterator[Place | Failure]:
        """Read the headers of the files in the tar."""
        for member in find_members(self.path):
            key, _, suffix = member.name.partition(".")
            if suffix == ARRAYS:
                yield Place(key_of_sample(key), f"offset={member.offset}&length={member.size}", member.size)

    def read(self, place: str) -> RegionRecord:
        """Read one file of the tar."""
        found = match_place(_PLACE, place, self.path, "offset=..&length=.., the place of a file in a tar")
        with open(self.path, "rb", buffering=0) as stream:
            stream.seek(int(found[1]))
            data = stream.read(int(found[2]))
        return decode_record(data, f"{self.path}, from byte {found[1]} on")
