"""TSV rows: as LXMERT reads them, and with the defects of old extraction scripts."""

from __future__ import annotations

import base64
import csv
import io
from pathlib import Path

import numpy as np
import pytest

from region_features.formats.tsv import RowPlace, decode_tsv_row, encode_tsv_row, find_rows
from region_features.records.region_record import ARRAY_FIELDS, FIELD_NAMES
from tests.samples.records import make_record


@pytest.mark.parametrize("boxes", [0, 1, 36])
def test_thirteen_columns_round_trip(boxes: int) -> None:
    record = make_record("käse_7", boxes=boxes)
    row = encode_tsv_row(record, 13)
    assert row.count(b"\t") == 12 and row.endswith(b"\n") and b"'" not in row
    back = decode_tsv_row(row, "a.tsv, line 1")
    for field in ARRAY_FIELDS:
        assert getattr(back, field.name).tobytes() == getattr(record, field.name).tobytes()
    assert (back.img_id, back.img_h, back.img_w) == (record.img_id, record.img_h, record.img_w)


def test_lxmert_reads_ten_columns_and_the_first_ten_of_thirteen() -> None:
    record = make_record("photo_7", boxes=3)
    text = encode_tsv_row(record, 10).decode() + encode_tsv_row(record, 13).decode()
    rows = list(csv.DictReader(io.StringIO(text), FIELD_NAMES[:10], delimiter="\t"))
    assert len(rows) == 2
    for row in rows:
        features = np.frombuffer(base64.b64decode(row["features"]), np.float32).reshape(int(row["num_boxes"]), -1)
        np.testing.assert_array_equal(features, record.features)
    back = decode_tsv_row(encode_tsv_row(record, 10), "a.tsv, line 1")
    assert back.cls_prob.shape == (3, 0) and back.attrs.shape == (3, 0)
    assert encode_tsv_row(back, 10) == encode_tsv_row(record, 10)


def with_defect(row: bytes, change: str) -> bytes:
    cells = row.rstrip(b"\n").split(b"\t")
    for index, name in enumerate(FIELD_NAMES):
        if name in {field.name for field in ARRAY_FIELDS} | {"classes"}:
            if change == "wrapped":
                cells[index] = b"b'" + cells[index] + b"'"
            elif change == "unpadded":
                cells[index] = cells[index].rstrip(b"=")
            elif change == "overpadded":
                cells[index] += b"=="
    return b"\t".join(cells) + (b"\r\n" if change == "crlf" else b"\n")


@pytest.mark.parametrize("change", ["wrapped", "unpadded", "overpadded", "crlf"])
def test_a_row_with_a_defect_of_old_scripts_is_read(change: str) -> None:
    record = make_record("photo_7", boxes=2)
    back = decode_tsv_row(with_defect(encode_tsv_row(record, 13), change), "a.tsv, line 1")
    assert encode_tsv_row(back, 13) == encode_tsv_row(record, 13)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"a\t1\t2", "expected 6, 10 or 13 columns, got 3; is the row torn"),
        (b"\xff" + b"\t" * 9, "expected text, got byte 0xff"),
        (b"a\tx\t2" + b"\t" * 7, "field num_boxes: expected a whole number"),
    ],
)
def test_a_damaged_row_is_named(row: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_tsv_row(row, "a.tsv, line 7")


def test_a_torn_array_is_named() -> None:
    cells = encode_tsv_row(make_record("photo_7", boxes=2), 10).rstrip().split(b"\t")
    cells[9] = cells[9][:40]
    with pytest.raises(ValueError, match=r"a.tsv, line 7, image .*, field features"):
        decode_tsv_row(b"\t".join(cells), "a.tsv, line 7")


def test_find_rows_yields_places_and_errors() -> None:
    good = encode_tsv_row(make_record("x_1", boxes=1), 10)
    data = good + b"\r\n" + b"torn\t1\n" + good.rstrip(b"\n") + b"\r\n" + b"\t" * 9 + b"\n" + good[:-30]
    rows = list(find_rows(io.BytesIO(data), "a.tsv"))
    assert [row if isinstance(row, RowPlace) else str(row)[:40] for row in rows] == [
        RowPlace(1, 0, len(good) - 1, "x_1"),
        "a.tsv, line 3: expected 10 or 13 columns"[:40],
        RowPlace(4, len(good) + 9, len(good) - 1, "x_1"),
        "a.tsv, line 5, field img_id: expected a "[:40],
        RowPlace(6, data.rindex(b"x_1"), len(good) - 30, "x_1"),
    ]
    place = rows[2]
    assert isinstance(place, RowPlace)
    assert data[place.offset : place.offset + place.length] == good.rstrip(b"\n")


def test_real_rows_come_back_bit_for_bit(real_tsv: Path) -> None:
    with real_tsv.open("rb") as stream:
        places = list(find_rows(stream, real_tsv.name))
        assert len(places) == 10
        for place in places:
            assert isinstance(place, RowPlace)
            stream.seek(place.offset)
            row = stream.read(place.length)
            record = decode_tsv_row(row, f"{real_tsv.name}, line {place.line}")
            assert record.features.shape == (36, 2048)
            assert encode_tsv_row(record, 10) == row.rstrip(b"\r\n") + b"\n"
