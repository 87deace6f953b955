"""Rows of a TSV of six, ten or thirteen columns."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from region_features.formats.tsv import ALL_COLUMNS, decode_tsv_row, find_rows
from region_features.records.failure import Failure
from region_features.records.region_record import RegionRecord
from region_features.sources.base import Place, Source, match_place
from region_features.sources.storage import LOCAL, Storage

_BUFFER_BYTES = 1 << 20
# Id, then two numbers: the start of every TSV of regions.
_FIRST_ROW = re.compile(rb"[^\t\r\n]{1,512}\t[0-9]{1,9}\t[0-9]{1,9}\t")
_PLACE = re.compile(r"line=(?P<line>\d{1,18})&offset=(?P<offset>\d{1,18})&length=(?P<length>\d{1,9})")


def begins_a_tsv(head: bytes) -> bool:
    """Return whether a file that begins so is a TSV of regions."""
    return _FIRST_ROW.match(head) is not None


class TsvSource(Source):
    """A TSV; which columns a row has, its number of them tells."""

    kind = "tsv"

    def __init__(self, path: str, storage: Storage = LOCAL) -> None:
        super().__init__(path)
        self._storage = storage

    def places(self) -> Iterator[Place | Failure]:
        """Read the file once from end to end to find the rows."""
        # Without a buffer, the end of a line would be looked for byte by byte.
        with io.BufferedReader(self._storage.open(self.path), _BUFFER_BYTES) as stream:  # type: ignore[type-var]
            for row in find_rows(stream, self.path, ALL_COLUMNS):
                if isinstance(row, ValueError):
                    yield self.failure("", row)
                else:
                    place = f"line={row.line}&offset={row.offset}&length={row.length}"
                    yield Place(row.img_id, place, row.length)

    def read(self, place: str) -> RegionRecord:
        """Read one row."""
        row = match_place(_PLACE, place, self.path, "line=..&offset=..&length=.., the place of a row")
        length = int(row["length"])
        with self._storage.open_piece(self.path, length) as stream:
            stream.seek(int(row["offset"]))
            return decode_tsv_row(stream.read(length), f"{self.path}, line {row['line']}")
