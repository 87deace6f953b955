"""Records of one Parquet table, as `--outputs parquet` writes it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

from region_features.formats.parquet import decode_row, open_table, read_group
from region_features.records.failure import Failure
from region_features.records.region_record import RegionRecord
from region_features.sources.base import Place, Source, match_place

_PLACE = re.compile(r"group=(\d{1,9})&row=(\d{1,9})")


class TableSource(Source):
    """A table; the group of rows that was read last is kept, since an image's neighbours are mostly in it."""

    kind = "parquet"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._lock = threading.Lock()
        self._group: tuple[int, Any] = -1, None

    def places(self) -> Iterator[Place | Failure]:
        """Read the column of the ids."""
        with open_table(self.path) as table:
            if "img_id" not in table.schema_arrow.names:
                raise ValueError(f"{self.path}: expected a column img_id, found {', '.join(table.schema_arrow.names)}")
            for group in range(table.num_row_groups):
                ids = read_group(table, group, self.path, ["img_id"]).column("img_id").to_pylist()
                for row, img_id in enumerate(ids):
                    yield Place(str(img_id), f"group={group}&row={row}")

    def read(self, place: str) -> RegionRecord:
        """Read one row, and the group of rows that it is in."""
        found = match_place(_PLACE, place, self.path, "group=..&row=.., the place of a row")
        group, row = int(found[1]), int(found[2])
        with self._lock:
            number, rows = self._group
            if number != group:
                with open_table(self.path) as table:
                    rows = read_group(table, group, self.path)
                self._group = group, rows
        return decode_row(rows, row, f"{self.path}, row {row} of group {group}")
