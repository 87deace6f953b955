"""VOLTA's own form: pickled dicts of text, and the pickled key list."""

from __future__ import annotations

import base64
import csv
import dataclasses
import pickle
import pickletools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from region_features.formats.volta import (
    decode_keys,
    decode_volta,
    encode_keys,
    encode_volta,
    record_from_strings,
    record_to_strings,
)
from region_features.records.region_record import FIELD_NAMES
from tests.samples.records import assert_same, make_record


@pytest.mark.parametrize("boxes", [1, 36, 100])
def test_round_trip(boxes: int) -> None:
    record = make_record("COCO_val2014_000000000042", boxes)
    assert_same(decode_volta(encode_volta(record), "x"), record)


def test_an_image_without_boxes_comes_back_with_arrays_of_width_0() -> None:
    record = make_record("a", boxes=0)
    empty = np.zeros((0, 0), np.float32)
    widthless = dataclasses.replace(record, features=empty, cls_prob=empty, attrs=empty)
    assert_same(decode_volta(encode_volta(record), "x"), widthless)


def test_a_value_is_a_plain_dict_of_text_in_a_pickle_for_python_3_6() -> None:
    record = make_record("COCO_val2014_000000000042", boxes=2)
    data = encode_volta(record)
    value = pickle.loads(data)
    assert type(value) is dict and tuple(value) == FIELD_NAMES
    assert {type(text) for text in value.values()} == {str}
    assert value == {
        **{name: str(getattr(record, name)) for name in ("img_id", "img_h", "img_w", "num_boxes")},
        **{
            name: base64.b64encode(getattr(record, name).astype(dtype).tobytes()).decode("ascii")
            for name, dtype in (
                ("objects_id", "<i8"),
                ("objects_conf", "<f4"),
                ("attrs_id", "<i8"),
                ("attrs_conf", "<f4"),
                ("boxes", "<f4"),
                ("features", "<f4"),
                ("cls_prob", "<f4"),
                ("attrs", "<f4"),
                ("classes", "<f4"),
            )
        },
    }
    assert max(code.proto for code, _, _ in pickletools.genops(data)) <= 4


def test_classes_and_cls_prob_are_pickled_once() -> None:
    record = make_record("a", boxes=36, width=1, classes=1601)
    assert len(encode_volta(record)) < 1.1 * len(record_to_strings(record)["cls_prob"])


def test_a_decoded_record_encodes_to_the_same_bytes() -> None:
    record = make_record("a")
    assert encode_volta(decode_volta(encode_volta(record), "x")) == encode_volta(record)


def test_real_rows_come_back_as_the_same_text(real_tsv: Path) -> None:
    csv.field_size_limit(sys.maxsize)
    with open(real_tsv, newline="") as table:
        rows = [dict(zip(FIELD_NAMES, row, strict=False)) for row in csv.reader(table, delimiter="\t")]
    assert len(rows) == 10
    for row in rows:
        generated = record_to_strings(make_record(row["img_id"], int(row["num_boxes"])))
        strings = {**generated, **row}
        record = record_from_strings(strings, "coco10")
        assert record_to_strings(record) == strings
        assert record.features.shape == (36, 2048) and (record.features >= 0).all()
        assert (record.boxes[:, 2] <= record.img_w).all()


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("never printed",))


def with_field(**changes: object) -> bytes:
    strings: dict[str, Any] = {**record_to_strings(make_record("a")), **changes}
    return pickle.dumps({name: value for name, value in strings.items() if value is not None})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "^v.lmdb: expected a pickled dict of text, got UnpicklingError"),
        (b"\x80\x04garbage", "^v.lmdb: expected a pickled dict of text, got"),
        (encode_volta(make_record("a"))[:-200], "^v.lmdb: expected a pickled dict of text, got"),
        (pickle.dumps(["a"]), "^v.lmdb: expected a pickled dict of text, got a list"),
        (pickle.dumps(Harmful()), "the pickle asks for builtins.print, which is refused"),
        (pickle.dumps({"img_id": np.zeros(1)}), "which is refused"),
        (with_field(attrs=None), "^v.lmdb, image a, field attrs: expected text, got nothing"),
        (with_field(attrs=b"AAAA"), "^v.lmdb, image a, field attrs: expected text, got bytes"),
        (with_field(num_boxes=3), "^v.lmdb, image a, field num_boxes: expected text, got int"),
        (with_field(img_id=""), "field img_id: expected a file stem, got empty text"),
        (with_field(img_h="４８０"), "field img_h: expected a whole number, got '４８０'"),
        (with_field(img_w="-640"), "field img_w: expected a whole number, got '-640'"),
        (with_field(num_boxes="9" * 5000), "field num_boxes: expected a whole number, got '9999"),
        (with_field(num_boxes="4"), "field objects_id: expected <i8 of 4 boxes .32 bytes., got 24 bytes"),
        (with_field(num_boxes="0"), "field objects_id: expected <i8 of 0 boxes .0 bytes., got 24 bytes"),
        (with_field(boxes="AAAA"), "field boxes: expected <f4 of 3 boxes .48 bytes., got 3 bytes"),
        (with_field(features="AAAAAAAA"), "field features: expected <f4 of 3 boxes .a multiple of 12 bytes., got 6"),
        (with_field(features="b'AAAA'"), "field features: expected base64, got text that is none"),
        (with_field(features="AAA"), "field features: expected base64, got text that is none"),
        (with_field(features="é"), "field features: expected base64, got text that is none"),
        (with_field(classes="AAAA"), "field classes: expected the text of cls_prob, got another"),
    ],
)
def test_wrong_values_are_named(data: bytes, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=message):
        decode_volta(data, "v.lmdb")
    assert capsys.readouterr().out == ""


def test_the_key_list_is_a_pickled_list() -> None:
    keys = [b"1", "Übung".encode()]
    assert pickle.loads(encode_keys(keys)) == keys
    assert decode_keys(encode_keys(keys), "v.lmdb") == keys


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a pickled list, got UnpicklingError"),
        (pickle.dumps({}), "expected a pickled list, got a dict"),
        (pickle.dumps(["1"]), "expected a list of bytes, got something else"),
        (pickle.dumps(Harmful()), "the pickle asks for builtins.print, which is refused"),
    ],
)
def test_a_damaged_key_list_is_refused(data: bytes, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=f"^v.lmdb, record keys: .*{message}"):
        decode_keys(data, "v.lmdb")
    assert capsys.readouterr().out == ""
