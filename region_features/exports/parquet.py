"""Parquet tables: a folder of files a set, one for each of its shards, a row an image.

K: boxes of an image.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from region_features.background import in_background
from region_features.exports.base import Copy, Export, OnProgress, ShardImage, Sources, Target
from region_features.formats.example import ImageExample
from region_features.formats.extras import import_extra
from region_features.formats.parquet import (
    TableShape,
    differing_columns,
    encode_rows,
    open_table,
    read_group,
    table_schema,
)
from region_features.records.build_note import BuildNote
from region_features.records.plan import SHARD_SUFFIX
from region_features.records.region_record import ARRAY_FIELDS
from region_features.validation.record import Problem

# A row group of about this size is read at once by whoever wants one of its rows.
_GROUP_BYTES = 16 << 20
_GROUPS_AHEAD = 1


class _OtherNumberOfBoxesError(Exception):
    pass


@dataclass(frozen=True)
class ParquetExport(Export):
    """`parquet/SET/SET-00000-of-00008.parquet` and so on, for pyarrow, pandas and Hugging Face's `datasets`.

    Where all images of a set have the same number of boxes, arrays are lists of fixed size; else the outer ones are of
    any length.
    """

    name = "parquet"
    modules = ("pyarrow",)

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name a folder after its set."""
        for set_name in sets:
            yield Target(set_name, (set_name,), folder=self.name, contents=set_name)

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, int]:
        """Write the tables; a record whose arrays have another width than those before is a ValueError."""
        try:
            records = _write_tables(sources, folder, True, on_progress)
        except _OtherNumberOfBoxesError:
            for name in os.listdir(folder):
                os.remove(os.path.join(folder, name))
            records = _write_tables(sources, folder, False, on_progress)
        return {"records": records, "tables": len(sources.paths)}

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Find the rows."""
        return _TablesCopy(os.path.join(folder, target.contents))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how many rows there are, in how many tables."""
        return f"{row['records']} rows in {row['tables']} tables"


def table_name(shard: str) -> str:
    """Return the name of the table that is built from a shard."""
    return shard.rpartition("/")[2].removesuffix(SHARD_SUFFIX) + ".parquet"


def _write_tables(sources: Sources, folder: str, same_boxes: bool, on_progress: OnProgress) -> int:
    """Write a table for each shard; return the number of rows.

    Raises:
        _OtherNumberOfBoxesError: `same_boxes` is promised, and an image has another number than the first one.
    """
    pq = import_extra("pyarrow.parquet")
    shape = _shape(sources, same_boxes)
    schema = table_schema(shape)
    records = 0
    for shard in sources.paths:
        path = os.path.join(folder, table_name(shard))
        groups = (encode_rows(group, schema) for group in _groups(sources, shard, shape))
        with (
            pq.ParquetWriter(path, schema, compression="none", use_dictionary=False, write_statistics=False) as writer,
            closing(in_background(groups, _GROUPS_AHEAD)) as batches,
        ):
            for batch in batches:
                writer.write_batch(batch, row_group_size=batch.num_rows)
                records += batch.num_rows
                on_progress("records_written", records)
    return records


def _shape(sources: Sources, same_boxes: bool) -> TableShape:
    """Return the shape of the first record that has boxes; an image without any has no widths to speak of."""
    first: ImageExample | None = None
    for _, example in sources.examples(sources.paths):
        first = first or example
        if example.record.num_boxes:
            return TableShape.of(example.record, same_boxes and first is example)
    return TableShape.of(first.record, False) if first else TableShape(None, {})


def _groups(sources: Sources, shard: str, shape: TableShape) -> Iterator[list[ImageExample]]:
    group: list[ImageExample] = []
    size = 0
    for _, example in sources.examples([shard]):
        _check_shape(example, shape, shard)
        group.append(example)
        size += sum(getattr(example.record, field.name).nbytes for field in ARRAY_FIELDS)
        if size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _check_shape(example: ImageExample, shape: TableShape, shard: str) -> None:
    record = example.record
    if shape.boxes is not None and record.num_boxes != shape.boxes:
        raise _OtherNumberOfBoxesError
    for field in ARRAY_FIELDS if record.num_boxes else ():
        if field.columns is None and record.lacks(field.name) != (field.name in shape.missing):
            raise ValueError(
                f"{shard}, image {record.img_id}, field {field.name}: expected all images of the set to have it, or "
                "none; a table has a column for all: make the set of one kind of records"
            )
    for name, width in shape.widths.items() if record.num_boxes else ():
        if getattr(record, name).shape[1] != width:
            raise ValueError(
                f"{shard}, image {record.img_id}, field {name}: expected the width {width} of the set's first image, "
                f"got {getattr(record, name).shape[1]}; a table has one: make the set of one network's records"
            )


class _Row(NamedTuple):
    path: str
    group: int
    row: int  # in the group
    last: bool  # of its group


class _TablesCopy(Copy):
    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._rows: dict[str, _Row] = {}
        self._damaged: list[Problem] = []
        # Shards are read in order, each in one thread: a table's next row mostly is in the group that was read last.
        self._groups: dict[str, tuple[int, Any]] = {}
        for name in sorted(os.listdir(folder)):
            if name.endswith(".parquet"):
                self._find_rows(os.path.join(folder, name))

    def _find_rows(self, path: str) -> None:
        with open_table(path) as table:
            for group in range(table.num_row_groups):
                ids = read_group(table, group, path, ["img_id"]).column("img_id").to_pylist()
                for row, img_id in enumerate(ids):
                    if img_id in self._rows:
                        self._damaged.append(Problem("parquet", f"{path}: image {img_id} comes a second time"))
                    self._rows[img_id] = _Row(path, group, row, row == len(ids) - 1)

    def check_example(self, example: ImageExample, shard: str) -> Iterator[Problem]:
        img_id = example.record.img_id
        place = self._rows.get(img_id)
        if place is None:
            yield Problem("parquet", f"{self._folder}: expected a row for {img_id} of {shard}, found none")
            return
        try:
            names = differing_columns(example, self._group(place), place.row)
        except ValueError as error:
            yield Problem("parquet", f"{place.path}, image {img_id}: cannot be read: {error}")
            return
        if names:
            message = f"{place.path}, image {img_id}: not the image of {shard}: {', '.join(names)} differ"
            yield Problem("parquet", message)

    def _group(self, place: _Row) -> Any:
        """Return the row group of a row."""
        number, rows = self._groups.pop(place.path, (-1, None))
        if number != place.group:
            with open_table(place.path) as table:
                rows = read_group(table, place.group, place.path)
        if not place.last:
            self._groups[place.path] = place.group, rows
        return rows

    def check_rest(self, images: Sequence[ShardImage], whole: bool) -> Iterator[Problem]:
        yield from self._damaged
        strangers = self._rows.keys() - {image.img_id for image in images}
        if strangers:
            message = f"{len(strangers)} rows are of no image in the shards, {min(strangers)} for one"
            yield Problem("parquet", f"{self._folder}: {message}")
