"""TSV rows of LXMERT and VOLTA; the reader also accepts the defects of old extraction scripts.

Tab separated, no header, no quoting; arrays as base64 of their raw little-endian bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from region_features.formats import LARGEST_ARRAY
from region_features.formats.tsv6 import SIX_COLUMNS, decode_six_columns, mend_base64
from region_features.formats.volta import record_from_strings, record_to_strings
from region_features.records.region_record import ARRAY_FIELDS, FIELD_NAMES, RegionRecord

# LXMERT reads the first ten; the last three are the probabilities.
SHORT_COLUMNS = 10
COLUMNS = (SHORT_COLUMNS, len(FIELD_NAMES))
ALL_COLUMNS = (len(SIX_COLUMNS), *COLUMNS)
_ARRAYS = frozenset(field.name for field in ARRAY_FIELDS) | {"classes"}


class RowPlace(NamedTuple):
    """Place of a row in a file: line number from 1, byte offset, length without the line's end; and its id."""

    line: int
    offset: int
    length: int
    img_id: str


def encode_tsv_row(record: RegionRecord, columns: int) -> bytes:
    """Return one line with its end: the first `columns` (10 or 13) fields in FIELD_NAMES order."""
    strings = record_to_strings(record)
    return ("\t".join([strings[name] for name in FIELD_NAMES[:columns]]) + "\n").encode()


def decode_tsv_row(line: bytes, source: str) -> RegionRecord:
    """Read a row of six, ten or thirteen columns.

    Base64 wrapped as `b'...'`, or with missing or excess padding, is accepted. A row of ten columns comes back with
    probability arrays of width 0, one of six with nothing but boxes and features.

    Raises:
        ValueError: the row is damaged; names the field.
    """
    try:
        cells = line.rstrip(b"\r\n").decode().split("\t")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: expected text, got byte {line[error.start]:#x}") from error
    if len(cells) == len(SIX_COLUMNS):
        return decode_six_columns(cells, source)
    if len(cells) not in COLUMNS:
        raise ValueError(f"{source}: expected 6, 10 or 13 columns, got {len(cells)}; is the row torn?")
    strings = dict(zip(FIELD_NAMES, cells, strict=False))
    for name in _ARRAYS & strings.keys():
        strings[name] = mend_base64(strings[name])
    if len(cells) == SHORT_COLUMNS:
        strings.update(dict.fromkeys(FIELD_NAMES[SHORT_COLUMNS:], ""))
    return record_from_strings(strings, source)


def find_rows(stream: BinaryIO, source: str, columns: tuple[int, ...] = COLUMNS) -> Iterator[RowPlace | ValueError]:
    """Yield the place of each row of a file, or an error for a damaged row; skip empty lines.

    Only the number of columns, one of `columns`, and the id, which stands in the first, are checked here; the arrays
    are when the row is decoded.
    """
    offset, number = 0, 0
    while line := stream.readline(LARGEST_ARRAY):
        number += 1
        where = f"{source}, line {number}"
        row = line.rstrip(b"\r\n")
        if row:
            yield _place(row, number, offset, where, columns)
        offset += len(line)
        if not line.endswith(b"\n") and len(line) == LARGEST_ARRAY:
            yield ValueError(f"{where}: expected a row of at most {LARGEST_ARRAY} bytes; this is no feature TSV")
            return


def _place(row: bytes, number: int, offset: int, where: str, columns: tuple[int, ...]) -> RowPlace | ValueError:
    count = row.count(b"\t") + 1
    if count not in columns:
        expected = " or ".join(map(str, columns))
        return ValueError(f"{where}: expected {expected} columns, got {count}; is the row torn?")
    try:
        img_id = row[: row.find(b"\t")].decode()
    except UnicodeDecodeError:
        return ValueError(f"{where}, field img_id: expected text, got bytes that are no UTF-8")
    if not img_id:
        return ValueError(f"{where}, field img_id: expected a file stem, got nothing")
    return RowPlace(number, offset, len(row), img_id)
