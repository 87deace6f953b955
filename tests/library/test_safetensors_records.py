"""LMDB values that are safetensors files: read by the package itself, rounded to float16 or not, damage named."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from safetensors import serialize

from region_features.formats.safetensors import (
    decode_keys,
    decode_record,
    encode_keys,
    encode_record,
    encode_safetensors,
    peek_id,
    rounded_to_float16,
)
from region_features.records.region_record import ARRAY_FIELDS
from tests.samples.records import assert_same, make_record

ID = "COCO_val2014_000000000042"
RECORD = make_record(ID)
GOOD = encode_record(RECORD, half=False)
HALVED = ("features", "cls_prob", "attrs")


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("boxes", [0, 1, 36])
def test_round_trip(boxes: int, half: bool) -> None:
    record = make_record(ID, boxes)
    data = encode_record(record, half)
    assert_same(decode_record(data, "x"), rounded_to_float16(record) if half else record)
    assert encode_record(record, half) == data


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("boxes", [0, 3])
def test_the_safetensors_package_reads_a_value(boxes: int, half: bool) -> None:
    record = make_record(ID, boxes)
    arrays = safetensors.numpy.load(encode_record(record, half))
    assert sorted(arrays) == sorted(field.name for field in ARRAY_FIELDS)
    for name, array in arrays.items():
        expected = getattr(record, name)
        assert array.dtype == (np.float16 if half and name in HALVED else expected.dtype)
        np.testing.assert_array_equal(array, expected.astype(array.dtype))


def test_the_header_holds_id_and_size_and_every_array_is_aligned() -> None:
    length = int.from_bytes(GOOD[:8], "little")
    header = json.loads(GOOD[8 : 8 + length])
    metadata = header.pop("__metadata__")
    assert metadata == {"img_h": "480", "img_id": ID, "img_w": "640", "layout": "region-record-1"}
    assert (8 + length) % 8 == 0 and len(header) == len(ARRAY_FIELDS)
    for name, tensor in header.items():
        assert tensor["data_offsets"][0] % getattr(RECORD, name).itemsize == 0


def test_strided_arrays_are_written_in_c_order() -> None:
    turned = dataclasses.replace(RECORD, features=np.asfortranarray(RECORD.features))
    assert encode_record(turned, half=False) == GOOD


def test_float16_rounds_to_the_nearest() -> None:
    rounded = rounded_to_float16(RECORD)
    assert rounded.features.tobytes() == RECORD.features.astype(np.float16).astype(np.float32).tobytes()
    assert rounded.boxes is RECORD.boxes and rounded.objects_conf is RECORD.objects_conf


def test_a_value_beyond_float16_is_refused_and_infinity_is_kept() -> None:
    features = np.array(RECORD.features)
    features[1, 2] = -7e4
    with pytest.raises(ValueError, match=f"{ID}, field features: expected values within 65504 of zero.*got 70000"):
        encode_record(dataclasses.replace(RECORD, features=features), half=True)
    features[1, 2] = np.inf
    infinite = dataclasses.replace(RECORD, features=features)
    assert np.isinf(decode_record(encode_record(infinite, half=True), "x").features[1, 2])


def test_the_id_is_peeked_from_the_first_bytes() -> None:
    data = encode_record(make_record(ID, 36), half=False)
    assert peek_id(data[:4096]) == ID
    assert peek_id(data[:100]) is None
    assert peek_id(b"\2" + bytes(7) + b"{}") is None


def test_the_key_list_is_json() -> None:
    keys = [b"1", "Übung".encode()]
    assert encode_keys(keys) == '["1", "Übung"]'.encode()
    assert decode_keys(encode_keys(keys), "x") == keys


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"{", "expected a JSON list"), (b"[1]", "list of texts"), (b"[" * 100_000, "a JSON list"), (b"\xff", "a JSON")],
)
def test_a_damaged_key_list_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^x, record keys: .*{message}"):
        decode_keys(data, "x")


def with_header(change: Callable[[Any], object]) -> bytes:
    """Return the good value with another header."""
    length = int.from_bytes(GOOD[:8], "little")
    header = json.loads(GOOD[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + GOOD[8 + length :]


def with_metadata(**changes: str | None) -> bytes:
    def change(header: Any) -> None:
        metadata = {**header["__metadata__"], **changes}
        header["__metadata__"] = {name: text for name, text in metadata.items() if text is not None}

    return with_header(change)


def with_array(name: str, array: Any) -> bytes:
    arrays = {field.name: getattr(RECORD, field.name) for field in ARRAY_FIELDS if field.name != name}
    if array is not None:
        arrays[name] = array
    metadata = {"layout": "region-record-1", "img_id": ID, "img_h": "480", "img_w": "640"}
    return b"".join(encode_safetensors(arrays, metadata))


FILE = "^v: expected the bytes of a safetensors file, got "
WHERE = f"^v, image {ID}"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", f"{FILE}SafetensorError"),
        (b"\x80\x04}", f"{FILE}SafetensorError"),
        (GOOD[:-1], f"{FILE}SafetensorError"),
        (GOOD + b"\0", f"{FILE}SafetensorError"),
        (GOOD[:100], f"{FILE}SafetensorError"),
        ((1 << 62).to_bytes(8, "little") + GOOD[8:], f"{FILE}SafetensorError"),
        (GOOD[:8] + b"[" + GOOD[9:], f"{FILE}SafetensorError"),
        (with_header(lambda header: header["boxes"].update(shape=[3, 5])), f"{FILE}SafetensorError"),
        (with_header(lambda header: header["boxes"].update(shape=[1 << 40, 1 << 40])), f"{FILE}SafetensorError"),
        (with_header(lambda header: header["boxes"].update(shape=[3, -4])), f"{FILE}SafetensorError"),
        (with_header(lambda header: header["boxes"].update(data_offsets=[0, 48])), f"{FILE}SafetensorError"),
        (with_header(lambda header: header["boxes"].update(dtype="O")), f"{FILE}SafetensorError"),
        (with_header(lambda header: header["features"].update(dtype="BF16", shape=[3, 32])), f"{FILE}KeyError"),
        (with_metadata(img_id=None), r"^v, image \(unnamed\), field img_id: expected text, got nothing"),
        (with_metadata(img_id=""), "field img_id: expected a file stem, got empty text"),
        (with_metadata(img_h="x"), f"{WHERE}, field img_h: expected a whole number, got 'x'"),
        (with_metadata(img_w="-1"), f"{WHERE}, field img_w: expected a whole number, got '-1'"),
        (with_metadata(layout="region-record-2"), f"{WHERE}, field layout: expected region-record-1, got 'region-re"),
        (with_metadata(layout=None), f"{WHERE}, field layout: expected region-record-1, got None"),
        (with_header(lambda header: header.pop("__metadata__")), r"image \(unnamed\), field layout: .* got None"),
        (serialize({}, None), r"image \(unnamed\), field layout: expected region-record-1, got None"),
        (with_array("features", None), f"{WHERE}, field features: expected an array of rank 2, got nothing"),
        (with_array("features", np.zeros(3, np.float32)), "features: expected an array of rank 2, got shape .3,."),
        (with_array("boxes", np.zeros((), np.float32)), r"boxes: expected an array of rank 2, got shape \(\)"),
        (with_array("features", np.zeros((3, 2), np.int64)), f"{WHERE}, field features: expected <f4 .*, got <i8"),
        (with_array("boxes", np.zeros((3, 4), np.float16)), f"{WHERE}, field boxes: expected <f4 .*, got <f2"),
        (with_array("boxes", np.zeros((3, 5), np.float32)), f"{WHERE}, field boxes: expected <f4 of shape .3, 4."),
        (with_array("features", np.zeros((4, 16), np.float32)), f"{WHERE}, field features: expected .* got .*.4, 16."),
        (with_array("img_id", np.zeros(1, np.float32)), "field img_id: expected text, got ndarray"),
    ],
)
def test_wrong_values_are_named(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_record(data, "v")


def test_random_damage_is_refused_or_decodes_to_a_record() -> None:
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(3000):
        data = bytearray(GOOD)
        data[random.integers(0, 800)] = random.integers(0, 256)
        try:
            decode_record(bytes(data[: random.integers(1, len(data) + 1)] if random.random() < 0.5 else data), "v")
        except ValueError as error:
            refused += 1
            assert str(error).startswith(("v, ", "v: "))
    assert refused > 1500
