"""Tables of records as Parquet: a row an image, its arrays as lists of the size that they have.

K: boxes of an image.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.formats import REMEDY
from region_features.formats.example import ImageExample
from region_features.formats.extras import import_extra
from region_features.formats.foreign_record import record_of
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord

_ITEM = "element"  # as Parquet itself calls the items of a list
_LARGEST_GROUP = 2 << 30  # bytes of the rows that are read at once; a group of 256 images takes 0.4 GB


@dataclass(frozen=True)
class TableShape:
    """The sizes of a table's lists.

    Attributes:
        boxes: K where all images have the same number, None where it differs: the outer lists are of any length then.
        widths: matrix field -> its number of columns; a field of none is left out of the table.
        missing: vector fields that the records lack, which are left out too.
    """

    boxes: int | None
    widths: Mapping[str, int]
    missing: frozenset[str] = frozenset()

    @classmethod
    def of(cls, record: RegionRecord, same_boxes: bool) -> TableShape:
        """Return the shape of tables of records such as this one."""
        widths = {
            field.name: getattr(record, field.name).shape[1] for field in ARRAY_FIELDS if field.columns is not None
        }
        vectors = (field.name for field in ARRAY_FIELDS if field.columns is None)
        return cls(record.num_boxes if same_boxes else None, widths, frozenset(filter(record.lacks, vectors)))


def table_schema(shape: TableShape) -> Any:
    """Return the `pyarrow.Schema` of a table; nothing in it may be null, which costs half the time to write."""
    pa = import_extra("pyarrow")

    texts = pa.list_(pa.field(_ITEM, pa.string(), nullable=False))
    numbers = pa.list_(pa.field(_ITEM, pa.int64(), nullable=False))
    fields = {
        "img_id": pa.string(),
        "filename": pa.string(),
        "height": pa.int32(),
        "width": pa.int32(),
        "num_boxes": pa.int32(),
        "captions": texts,
        "caption_ids": numbers,
        "split": pa.string(),
        "sha256": pa.string(),
    }
    for field in ARRAY_FIELDS:
        items = pa.from_numpy_dtype(np.dtype(field.dtype))
        if field.columns is not None:
            items = pa.list_(pa.field(_ITEM, items, nullable=False), shape.widths.get(field.name, 0))
        if field.name not in shape.missing and (field.columns is None or shape.widths.get(field.name)):
            length = -1 if shape.boxes is None else shape.boxes
            fields[field.name] = pa.list_(pa.field(_ITEM, items, nullable=False), length)
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields.items()])


def encode_rows(examples: Sequence[ImageExample], schema: Any) -> Any:
    """Return examples as a `pyarrow.RecordBatch`; their arrays are of the schema's shape."""
    pa = import_extra("pyarrow")

    columns = []
    for field in schema:
        if field.name in _ARRAY_NAMES:
            columns.append(_encode_arrays([getattr(example.record, field.name) for example in examples], field.type))
        else:
            columns.append(pa.array([_described(example)[field.name] for example in examples], field.type))
    return pa.record_batch(columns, schema=schema)


_ARRAY_NAMES = frozenset(field.name for field in ARRAY_FIELDS)


def _described(example: ImageExample) -> dict[str, Any]:
    """Return what a row holds beside the arrays."""
    record = example.record
    return {
        "img_id": record.img_id,
        "filename": example.filename,
        "height": record.img_h,
        "width": record.img_w,
        "num_boxes": record.num_boxes,
        "captions": list(example.captions),
        "caption_ids": list(example.caption_ids),
        "split": example.split,
        "sha256": example.sha256,
    }


def _encode_arrays(arrays: Sequence[NDArray[Any]], kind: Any) -> Any:
    """Return arrays (K,) or (K, W) as one column."""
    pa = import_extra("pyarrow")

    items = pa.array(np.concatenate([array.reshape(-1) for array in arrays]))
    if pa.types.is_fixed_size_list(kind.value_type):
        items = pa.FixedSizeListArray.from_arrays(items, type=kind.value_type)
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(items, type=kind)
    offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), items, type=kind)


def differing_columns(example: ImageExample, rows: Any, row: int) -> list[str]:
    """Return the names of the columns in which a row of a table is not this image, bit for bit."""
    pa = import_extra("pyarrow")
    names = []
    for name, expected in _described(example).items():
        if name not in rows.schema.names or rows.column(name)[row].as_py() != expected:
            names.append(name)
    for field in ARRAY_FIELDS:
        array = getattr(example.record, field.name)
        if field.name not in rows.schema.names:
            same = not array.size
        else:
            column = rows.column(field.name).slice(row, 1)
            while pa.types.is_nested(column.type):
                column = column.flatten()
            same = column.to_numpy().tobytes() == array.tobytes()
        if not same:
            names.append(field.name)
    return names


def open_table(path: str) -> Any:
    """Open a local file as a `pyarrow.parquet.ParquetFile`.

    Raises:
        ValueError: it is no whole Parquet file; names it.
        OSError: it cannot be read.
    """
    with _naming_damage(path):
        return import_extra("pyarrow.parquet").ParquetFile(path)


def read_group(table: Any, group: int, path: str, columns: Sequence[str] | None = None) -> Any:
    """Read a group of rows of an open table as a `pyarrow.RecordBatch`, where it says that it takes no more than 2 GB.

    Raises:
        ValueError: it is damaged, not there or too large; names the file.
        OSError: it cannot be read.
    """
    with _naming_damage(path):
        if group >= table.num_row_groups:
            raise ValueError(f"{table.num_row_groups} groups of rows, and none of number {group}")
        # Of the columns nothing is asked: where their description is damaged, pyarrow ends the process.
        size = table.metadata.row_group(group).total_byte_size
        if size > _LARGEST_GROUP:
            raise ValueError(f"a group of rows of {size} bytes, of at most {_LARGEST_GROUP}")
        batches = table.read_row_group(group, columns, use_threads=False).combine_chunks().to_batches()
        if not batches:
            raise ValueError(f"a group of rows without rows, of number {group}")
        return batches[0]


@contextlib.contextmanager
def _naming_damage(path: str) -> Iterator[None]:
    """Raise what pyarrow makes of damaged bytes as a ValueError that names the file."""
    pa = import_extra("pyarrow")
    try:
        yield
    except (ValueError, OSError, MemoryError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:  # what the file system says has a number
            raise
        raise ValueError(f"{path}: expected a whole Parquet file, got: {error}; {REMEDY}") from error


def decode_row(rows: Any, row: int, source: str) -> RegionRecord:
    """Read a row of a `pyarrow.RecordBatch` as a record; arrays without a column are missing.

    Raises:
        ValueError: a column is missing, or an array has not the shape that it must have; names it.
    """
    pa = import_extra("pyarrow")
    try:
        img_id, height, width = (rows.column(name)[row].as_py() for name in ("img_id", "height", "width"))
        if not isinstance(img_id, str) or type(height) is not int or type(width) is not int:
            raise TypeError(f"the image {img_id!r:.80} of {width!r:.20} x {height!r:.20} pixels")
        arrays: dict[str, NDArray[Any]] = {}
        for field in ARRAY_FIELDS:
            if field.name not in rows.schema.names:
                continue
            column = rows.column(field.name).slice(row, 1)
            if field.columns is None:
                arrays[field.name] = column.flatten().to_numpy(zero_copy_only=False)
            else:
                lists = column.flatten()
                values = lists.flatten().to_numpy(zero_copy_only=False)
                columns = len(values) // len(lists) if len(lists) else field.columns
                arrays[field.name] = values.reshape(len(lists), columns)
    except (LookupError, AttributeError, TypeError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"{source}: expected the columns of a table of records, got {error!r}; {REMEDY}") from error
    return record_of(img_id, (height, width), arrays, f"{source}, image {img_id}")
