"""TSVs as LXMERT and VOLTA's scripts read them: one a set, a row an image in shard order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from region_features.exports.base import FEATURES_FOLDER, Copy, Export, OnProgress, ShardImage, Sources, Target
from region_features.formats.tsv import RowPlace, decode_tsv_row, encode_tsv_row, find_rows
from region_features.records.build_note import BuildNote
from region_features.records.coco import tsv_name
from region_features.records.region_record import FIELD_NAMES, RegionRecord
from region_features.validation.record import Problem, differing_fields

_ROWS_A_REPORT = 64


@dataclass(frozen=True)
class TsvExport(Export):
    """`train_obj36-36.tsv` and its like, of ten or thirteen columns."""

    tsv_columns: int = 13

    name = "tsv"

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name a TSV after its set, and after the rule that its boxes were chosen by."""
        rule = "boxes" if "boxes_sha256" in settings else f"obj{settings.get('min_boxes')}-{settings.get('max_boxes')}"
        for set_name in sets:
            name = f"{tsv_name(set_name)}_{rule}.tsv"
            yield Target(name, (set_name,), (name,), FEATURES_FOLDER)

    def refuse_id(self, img_id: str) -> str | None:
        """Refuse what would tear a row."""
        return "a tab or a line break in its name" if set(img_id) & set("\t\r\n") else None

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, int]:
        """Write the rows."""
        rows = 0
        with open(os.path.join(folder, target.name), "wb") as stream:
            for _, example in sources.examples(sources.paths):
                stream.write(encode_tsv_row(example.record, self.tsv_columns))
                rows += 1
                if rows % _ROWS_A_REPORT == 0:
                    on_progress("rows_written", rows)
        on_progress("rows_written", rows)
        return {"rows": rows}

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Find the rows."""
        path = os.path.join(folder, target.name)
        return _TsvCopy(path, int(note.settings["tsv_columns"]), note.counts.get("rows"))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how many rows it has."""
        return f"{row['rows']} rows"


class _TsvCopy(Copy):
    def __init__(self, path: str, columns: int, expected_rows: int | None) -> None:
        self._path, self._columns, self._expected_rows = path, columns, expected_rows
        self._rows: dict[str, RowPlace] = {}
        self._damaged: list[Problem] = []
        with open(path, "rb") as stream:
            for place in find_rows(stream, path):
                if isinstance(place, ValueError):
                    self._damaged.append(Problem("tsv", str(place)))
                elif place.img_id in self._rows:
                    message = f"{path}, line {place.line}: image {place.img_id} comes a second time"
                    self._damaged.append(Problem("tsv", message))
                else:
                    self._rows[place.img_id] = place

    def check(self, record: RegionRecord, shard: str) -> Iterator[Problem]:
        place = self._rows.get(record.img_id)
        if place is None:
            yield Problem("tsv", f"{self._path}: expected a row for {record.img_id} of {shard}, found none")
            return
        with open(self._path, "rb", buffering=0) as stream:
            stream.seek(place.offset)
            line = stream.read(place.length)
        if line == encode_tsv_row(record, self._columns).rstrip(b"\n"):
            return
        where = f"{self._path}, line {place.line}"
        try:
            stored = decode_tsv_row(line, where)
        except ValueError as error:
            yield Problem("tsv", str(error))
            return
        names = [name for name in differing_fields(record, stored) if name in FIELD_NAMES[: self._columns]]
        if names:
            yield Problem("tsv", f"{where}: not the record of {record.img_id} in {shard}: {', '.join(names)} differ")

    def check_rest(self, images: Sequence[ShardImage], whole: bool) -> Iterator[Problem]:
        yield from self._damaged
        total = len(self._rows) + len(self._damaged)
        if self._expected_rows is not None and total != self._expected_rows:
            yield Problem("tsv", f"{self._path}: expected {self._expected_rows} rows (its note), got {total}")
        known = {image.img_id for image in images}
        strangers = [img_id for img_id in self._rows if img_id not in known]
        if strangers and whole:
            message = f"{len(strangers)} rows are of no image in the shards, {strangers[0]} for one"
            yield Problem("tsv", f"{self._path}: {message}")
