"""TSVs of six columns, as bottom-up attention's authors published their features."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from region_features.exports.base import Copy, Export, OnProgress, Sources, Target, group_sets
from region_features.exports.rows import RowsCopy, refuse_row_id, write_rows
from region_features.formats.tsv6 import SIX_COLUMNS, encode_six_columns, six_column_id
from region_features.records.build_note import BuildNote
from region_features.records.coco import joint_name
from region_features.records.region_record import RegionRecord

_NETWORK = "resnet101_faster_rcnn_genome"


@dataclass(frozen=True)
class Tsv6Export(Export):
    """`trainval_resnet101_faster_rcnn_genome_36.tsv` for COCO's training and validation images, `SET_...` for others.

    The number of boxes ends the name where all images have the same.
    """

    name = "tsv6"

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name a TSV after its sets and its number of boxes."""
        fewest, most = settings.get("min_boxes"), settings.get("max_boxes")
        number = f"_{most}" if fewest == most and "boxes_sha256" not in settings else ""
        for group, members in group_sets(sets, partial(joint_name, joint="trainval")):
            name = f"{group}_{_NETWORK}{number}.tsv"
            yield Target(name, members, (name,), self.name)

    def refuse_id(self, img_id: str) -> str | None:
        """Refuse what would tear a row."""
        return refuse_row_id(img_id)

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, int]:
        """Write the rows, set by set."""
        return write_rows(os.path.join(folder, target.name), sources, encode_six_columns, on_progress)

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Find the rows."""
        columns = (len(SIX_COLUMNS),)
        return _Tsv6Copy(self.name, os.path.join(folder, target.name), columns, note.counts.get("rows"))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how many rows it has."""
        return f"{row['rows']} rows"


class _Tsv6Copy(RowsCopy):
    def row_id(self, img_id: str) -> str:
        return six_column_id(img_id)

    def encode(self, record: RegionRecord) -> bytes:
        return encode_six_columns(record)

    def differing(self, record: RegionRecord, line: bytes, where: str) -> list[str]:
        cells = zip(SIX_COLUMNS, self.encode(record).split(b"\t"), line.split(b"\t"), strict=True)
        return [name for name, expected, stored in cells if stored.rstrip() != expected.rstrip()]
