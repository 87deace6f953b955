"""Rows of a TSV of six, ten or thirteen columns, read through any opener of files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

from region_features.formats.tsv import ALL_COLUMNS, decode_tsv_row, find_rows
from region_features.records.failure import Failure
from region_features.records.region_record import RegionRecord
from region_features.sources.base import Place, Source, match_place

OpenStream = Callable[[str], AbstractContextManager[BinaryIO]]
# Id, then two numbers: the start of every TSV of regions.
_FIRST_ROW = re.compile(rb"[^\t\r\n]{1,512}\t[0-9]{1,9}\t[0-9]{1,9}\t")
_PLACE = re.compile(r"line=(?P<line>\d+)&offset=(?P<offset>\d+)&length=(?P<length>\d+)")


def open_local(path: str) -> BinaryIO:
    """Open a local file for reading."""
    return open(path, "rb")


def begins_a_tsv(head: bytes) -> bool:
    """Return whether a file that begins so is a TSV of regions."""
    return _FIRST_ROW.match(head) is not None


class TsvSource(Source):
    """A TSV; which columns a row has, its number of them tells."""

    kind = "tsv"

    def __init__(self, path: str, open_stream: OpenStream = open_local) -> None:
        super().__init__(path)
        self._open = open_stream

    @property
    def default_set(self) -> str:
        """Name of the folder, also of a remote one."""
        folder = os.path.dirname(self.path if "://" in self.path else os.path.abspath(self.path))
        return os.path.basename(folder) or "images"

    def places(self) -> Iterator[Place | Failure]:
        """Read the file once from end to end to find the rows."""
        with self._open(self.path) as stream:
            for row in find_rows(stream, self.path, ALL_COLUMNS):
                if isinstance(row, ValueError):
                    yield self.failure("", row)
                else:
                    place = f"line={row.line}&offset={row.offset}&length={row.length}"
                    yield Place(row.img_id, place, row.length)

    def read(self, place: str) -> RegionRecord:
        """Read one row."""
        row = match_place(_PLACE, place, self.path, "line=..&offset=..&length=.., the place of a row")
        with self._open(self.path) as stream:
            stream.seek(int(row["offset"]))
            return decode_tsv_row(stream.read(int(row["length"])), f"{self.path}, line {row['line']}")
