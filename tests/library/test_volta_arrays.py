"""VOLTA's pickled dict with arrays in place of base64 text."""

from __future__ import annotations

import pickle
import pickletools
from typing import Any

import numpy as np
import pytest

from region_features.formats.pickles import dump_portable
from region_features.formats.volta import encode_volta
from region_features.formats.volta_arrays import decode_arrays, encode_arrays
from region_features.records.region_record import FIELD_NAMES
from tests.samples.records import assert_same, make_record


@pytest.mark.parametrize("boxes", [0, 1, 36])
def test_round_trip(boxes: int) -> None:
    record = make_record("COCO_val2014_000000000042", boxes)
    assert_same(decode_arrays(encode_arrays(record), "x"), record)


def test_voltas_reader_reads_a_value_once_its_base64_calls_are_removed() -> None:
    record = make_record("COCO_val2014_000000000042", boxes=2)
    data = encode_arrays(record)
    item = pickle.loads(data)
    assert type(item) is dict and tuple(item) == FIELD_NAMES
    assert int(item["num_boxes"]) == 2 and int(item["img_h"]) == 480 and item["img_id"] == record.img_id
    features = np.frombuffer(item["features"], np.float32).reshape(2, -1)
    assert features.tobytes() == record.features.tobytes()
    assert item["classes"] is item["cls_prob"] and item["features"].flags.writeable
    for name in FIELD_NAMES:
        if name not in ("img_id", "img_h", "img_w", "num_boxes"):
            assert item[name].tobytes() == getattr(record, name).tobytes()


def test_python_3_6_and_numpy_1_know_every_name_in_a_value() -> None:
    codes = list(pickletools.genops(encode_arrays(make_record("a"))))
    assert max(code.proto for code, _, _ in codes) <= 4
    texts = {argument for _, argument, _ in codes if isinstance(argument, str)}
    assert {"numpy", "array", "ndarray"} <= texts and not [text for text in texts if "core" in text]


def test_a_value_takes_three_quarters_of_voltas_bytes() -> None:
    record = make_record("a", boxes=36, width=256)
    assert 0.74 < len(encode_arrays(record)) / len(encode_volta(record)) < 0.77


class Harmful:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


def with_field(**changes: object) -> bytes:
    value: dict[str, Any] = {**pickle.loads(encode_arrays(make_record("a"))), **changes}
    if "cls_prob" not in changes and "classes" not in changes:
        value["classes"] = value["cls_prob"]
    return dump_portable({name: field for name, field in value.items() if field is not None})


def with_call(*call: Any) -> bytes:
    return pickle.dumps({"img_id": "a", "features": Harmful(*call)}, 4)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "^v: expected a pickled dict of text and arrays, got UnpicklingError"),
        (encode_arrays(make_record("a"))[:-200], "^v: expected a pickled dict of text and arrays, got"),
        (pickle.dumps(["a"]), "^v: expected a pickled dict of text and arrays, got a list"),
        (with_call(print, "never printed"), "the pickle asks for builtins.print, which is refused"),
        (with_call(np.frombuffer, b"1"), "asks for .*frombuffer, which is refused"),
        (with_call(np.ndarray, (1 << 40,), "<f4"), "takes? .* argument|missing 1 required"),
        (
            with_call(np.ndarray, (1 << 40,), "<f4", b"1234"),
            r"asks for shape \(1099511627776,\) of '<f4'",
        ),
        (with_call(np.ndarray, (1,), "O", b"12345678"), "asks for an array of 'O'"),
        (with_call(np.ndarray, (-1, -1), "<f4", b"1234"), r"asks for shape \(-1, -1\)"),
        (with_call(np.array, "text"), "makes an array of a str"),
        (with_field(features=None), "^v, image a, field features: expected an array of rank 2, got nothing"),
        (with_field(features="AAAA"), "^v, image a, field features: expected an array of rank 2, got str 'AAAA'"),
        (with_field(num_boxes=3), "^v, image a, field num_boxes: expected text, got int 3"),
        (with_field(num_boxes="4"), "field num_boxes: expected 3 as in boxes, got 4"),
        (with_field(img_h="x"), "field img_h: expected a whole number, got 'x'"),
        (
            with_field(features=np.zeros(3, np.float32)),
            r"field features: expected an array of rank 2, got shape \(3,\)",
        ),
        (with_field(boxes=np.zeros((3, 5), np.float32)), r"field boxes: expected <f4 of shape \(3, 4\)"),
        (with_field(attrs=np.zeros((3, 5), np.int64)), "field attrs: expected <f4 of shape .*, got <i8"),
        (with_field(classes=np.zeros((3, 7), np.float32)), "field classes: expected the array of cls_prob"),
    ],
)
def test_wrong_values_are_named(data: bytes, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=message):
        decode_arrays(data, "v")
    assert capsys.readouterr().out == ""
