"""TSVs as LXMERT and VOLTA's scripts read them: one a set, a row an image in shard order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from region_features.exports.base import FEATURES_FOLDER, Copy, Export, OnProgress, Sources, Target
from region_features.exports.rows import RowsCopy, refuse_row_id, write_rows
from region_features.formats.tsv import COLUMNS, decode_tsv_row, encode_tsv_row
from region_features.records.build_note import BuildNote
from region_features.records.coco import tsv_name
from region_features.records.region_record import FIELD_NAMES, RegionRecord
from region_features.validation.record import differing_fields


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
        return refuse_row_id(img_id)

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, int]:
        """Write the rows."""
        encode = partial(encode_tsv_row, columns=self.tsv_columns)
        return write_rows(os.path.join(folder, target.name), sources, encode, on_progress)

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Find the rows."""
        return _TsvCopy(os.path.join(folder, target.name), int(note.settings["tsv_columns"]), note.counts.get("rows"))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how many rows it has."""
        return f"{row['rows']} rows"


class _TsvCopy(RowsCopy):
    def __init__(self, path: str, columns: int, expected_rows: int | None) -> None:
        self._columns = columns
        super().__init__("tsv", path, COLUMNS, expected_rows)

    def row_id(self, img_id: str) -> str:
        return img_id

    def encode(self, record: RegionRecord) -> bytes:
        return encode_tsv_row(record, self._columns)

    def differing(self, record: RegionRecord, line: bytes, where: str) -> list[str]:
        names = differing_fields(record, decode_tsv_row(line, where))
        return [name for name in names if name in FIELD_NAMES[: self._columns]]
