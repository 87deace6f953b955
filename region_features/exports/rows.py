"""What the TSVs have in common: a row an image in shard order, and each row compared with its record."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence

from region_features.exports.base import Copy, OnProgress, ShardImage, Sources
from region_features.formats.tsv import RowPlace, find_rows
from region_features.records.region_record import RegionRecord
from region_features.validation.record import Problem

_ROWS_A_REPORT = 64
# What tears a row.
ROW_SIGNS = frozenset("\t\r\n")


def refuse_row_id(img_id: str) -> str | None:
    """Say why no row can hold an image of this id, None if one can."""
    return "a tab or a line break in its name" if set(img_id) & ROW_SIGNS else None


def write_rows(
    path: str, sources: Sources, encode: Callable[[RegionRecord], bytes], on_progress: OnProgress
) -> dict[str, int]:
    """Write a row for each record of the shards into a new file; return the count `rows`."""
    rows = 0
    with open(path, "wb") as stream:
        for _, example in sources.examples(sources.paths):
            stream.write(encode(example.record))
            rows += 1
            if rows % _ROWS_A_REPORT == 0:
                on_progress("rows_written", rows)
    on_progress("rows_written", rows)
    return {"rows": rows}


class RowsCopy(Copy):
    """The rows of a TSV, compared with the records of the shards.

    Args:
        kind: of the problems.
        path: of the TSV.
        columns: the numbers of columns that its rows may have.
        expected_rows: how many rows its note tells, None if it does not.
    """

    def __init__(self, kind: str, path: str, columns: tuple[int, ...], expected_rows: int | None) -> None:
        self._kind, self._path, self._expected_rows = kind, path, expected_rows
        self._rows: dict[str, RowPlace] = {}
        self._damaged: list[Problem] = []
        with open(path, "rb") as stream:
            for place in find_rows(stream, path, columns):
                if isinstance(place, ValueError):
                    self._damaged.append(Problem(kind, str(place)))
                elif place.img_id in self._rows:
                    message = f"{path}, line {place.line}: image {place.img_id} comes a second time"
                    self._damaged.append(Problem(kind, message))
                else:
                    self._rows[place.img_id] = place

    @abstractmethod
    def row_id(self, img_id: str) -> str:
        """Return what stands in the first column of an image's row."""

    @abstractmethod
    def encode(self, record: RegionRecord) -> bytes:
        """Return the row that a record must have, with its end."""

    @abstractmethod
    def differing(self, record: RegionRecord, line: bytes, where: str) -> list[str]:
        """Name the columns of a row that are not those of the record; ValueError if the row is damaged."""

    def check(self, record: RegionRecord, shard: str) -> Iterator[Problem]:
        """Compare the row of a record."""
        place = self._rows.get(self.row_id(record.img_id))
        if place is None:
            message = f"{self._path}: expected a row for {record.img_id} of {shard}, found none"
            yield Problem(self._kind, message)
            return
        with open(self._path, "rb", buffering=0) as stream:
            stream.seek(place.offset)
            line = stream.read(place.length)
        if line == self.encode(record).rstrip(b"\n"):
            return
        where = f"{self._path}, line {place.line}"
        try:
            names = self.differing(record, line, where)
        except ValueError as error:
            yield Problem(self._kind, str(error))
            return
        if names:
            differing = f"not the record of {record.img_id} in {shard}: {', '.join(names)} differ"
            yield Problem(self._kind, f"{where}: {differing}")

    def check_rest(self, images: Sequence[ShardImage], whole: bool) -> Iterator[Problem]:
        """Name damaged rows, and rows of no image."""
        yield from self._damaged
        total = len(self._rows) + len(self._damaged)
        if self._expected_rows is not None and total != self._expected_rows:
            yield Problem(self._kind, f"{self._path}: expected {self._expected_rows} rows (its note), got {total}")
        known = {self.row_id(image.img_id) for image in images}
        strangers = [row_id for row_id in self._rows if row_id not in known]
        if strangers and whole:
            message = f"{len(strangers)} rows are of no image in the shards, {strangers[0]} for one"
            yield Problem(self._kind, f"{self._path}: {message}")
