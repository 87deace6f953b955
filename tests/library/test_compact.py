"""The forms without pickle: what they hold byte by byte, and what damage does to them."""

from __future__ import annotations

import builtins
import dataclasses
import struct
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
import zstandard

from region_features.formats.compact import (
    decode_compact,
    decode_json_keys,
    encode_compact,
    encode_json_keys,
    peek_compact,
    to_float16,
)
from tests.samples.records import assert_same, make_record

ID = "COCO_val2014_000000000042"
VALUE_CODECS = [(half, zstd) for half in (False, True) for zstd in (False, True)]


def record_of(boxes: int = 3) -> Any:
    return make_record(ID, boxes)


@pytest.mark.parametrize(("half", "zstd"), VALUE_CODECS)
@pytest.mark.parametrize("boxes", [0, 1, 36])
def test_round_trip(boxes: int, half: bool, zstd: bool) -> None:
    record = record_of(boxes)
    data = encode_compact(record, half, zstd)
    assert_same(decode_compact(data, "x"), to_float16(record) if half else record)
    assert encode_compact(record, half, zstd) == data


@pytest.mark.parametrize(("half", "zstd"), VALUE_CODECS)
def test_the_bytes_are_those_of_the_document(half: bool, zstd: bool) -> None:
    """Reads a value by docs/lmdb_forms.md alone."""
    record = record_of()
    data = encode_compact(record, half, zstd)
    assert data[:4] == b"RGNF" and data[4:6] == b"\x01\0"
    (length,) = struct.unpack("<H", data[6:8])
    header = msgpack.unpackb(data[8 : 8 + length])
    assert list(header) == ["img_id", "img_h", "img_w", "arrays", "compression", "bytes"]
    assert (header["img_id"], header["img_h"], header["img_w"]) == (ID, 480, 640)
    start = (8 + length + 7) // 8 * 8
    assert data[8 + length : start] == bytes(start - 8 - length) and len(data) == start + header["bytes"]
    raw = data[start:]
    if zstd:
        assert header["compression"] == "zstd"
        raw = zstandard.ZstdDecompressor().decompress(raw)
    position = 0
    for name, dtype, shape in header["arrays"]:
        array = np.frombuffer(raw, dtype, int(np.prod(shape)), position).reshape(shape)
        position += array.nbytes
        wanted = getattr(record, name)
        assert dtype == ("<f2" if half and name in ("features", "cls_prob", "attrs") else wanted.dtype.str)
        np.testing.assert_array_equal(array, wanted.astype(dtype))
    assert position == len(raw)


def test_float16_rounds_to_the_nearest_and_refuses_what_it_cannot_hold() -> None:
    record = record_of()
    rounded = to_float16(record)
    assert rounded.features.tobytes() == record.features.astype(np.float16).astype(np.float32).tobytes()
    assert rounded.boxes is record.boxes and rounded.objects_conf is record.objects_conf
    features = np.array(record.features)
    features[1, 2] = -7e4
    with pytest.raises(ValueError, match=f"{ID}, field features: expected values within 65504 of zero.*got 70000"):
        encode_compact(dataclasses.replace(record, features=features), half=True)
    features[1, 2] = np.inf
    infinite = dataclasses.replace(record, features=features)
    assert np.isinf(decode_compact(encode_compact(infinite, half=True), "x").features[1, 2])


def test_an_id_beyond_the_header_is_named() -> None:
    with pytest.raises(ValueError, match=r"^image aaa.*a\.\.\.: expected an id of at most"):
        encode_compact(make_record("a" * 70_000))


def test_an_id_is_seen_in_the_first_bytes() -> None:
    data = encode_compact(record_of(36))
    assert peek_compact(data[:4096]) == ID
    assert peek_compact(data[:100]) is None and peek_compact(b"") is None


def test_keys_are_json() -> None:
    keys = [b"1", "Übung".encode()]
    assert encode_json_keys(keys) == '["1", "Übung"]'.encode()
    assert decode_json_keys(encode_json_keys(keys), "x") == keys
    for data, message in ((b"{", "expected a JSON list"), (b"[1]", "list of texts"), (b"[" * 100_000, "a JSON list")):
        with pytest.raises(ValueError, match=f"^x, record keys: .*{message}"):
            decode_json_keys(data, "x")


def edited(change: Callable[[Any], object], zstd: bool = False) -> bytes:
    """A value whose header says something else."""
    data = encode_compact(record_of(), zstd=zstd)
    (length,) = struct.unpack("<H", data[6:8])
    header = msgpack.unpackb(data[8 : 8 + length])
    change(header)
    packed = msgpack.packb(header)
    start = (8 + length + 7) // 8 * 8
    return (data[:6] + struct.pack("<H", len(packed)) + packed).ljust((8 + len(packed) + 7) // 8 * 8, b"\0") + data[
        start:
    ]


def array(name: str, place: int, value: object) -> Callable[[Any], None]:
    def change(header: Any) -> None:
        next(row for row in header["arrays"] if row[0] == name)[place] = value

    return change


GOOD = encode_compact(record_of())
PACKED = encode_compact(record_of(), zstd=True)
WHERE = f"^v, image {ID}"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "^v, field magic: expected b'RGNF', got b''"),
        (b"\x80\x04}", "^v, field magic: expected b'RGNF', got"),
        (b"X" + GOOD[1:], "^v, field magic: expected b'RGNF', got b'XGNF'"),
        (GOOD[:4] + b"\2" + GOOD[5:], "^v, field version: expected 1, got 2; update this program"),
        (GOOD[:20], r"^v, field header: expected \d+ bytes, got 12"),
        (GOOD[:8] + b"\xc1" + GOOD[9:], "^v, field header: expected msgpack, got"),
        (GOOD[:8] + b"\xdf\xff\xff\xff\xff" + GOOD[13:], "^v, field header: expected msgpack, got"),
        (GOOD[:6] + b"\1\0" + GOOD[8:], "^v, field header: expected msgpack, got"),
        (GOOD[:6] + b"\1\0\5", "^v, field header: expected a map, got a int"),
        (GOOD[:-1], rf"{WHERE}: expected \d+ bytes after its header, got \d+"),
        (GOOD + b"\0", rf"{WHERE}: expected \d+ bytes after its header, got \d+"),
        (edited(lambda header: header.pop("img_id")), "^v, field img_id: expected a file stem, got None"),
        (edited(lambda header: header.update(img_id=7)), "^v, field img_id: expected a file stem, got 7"),
        (edited(lambda header: header.update(img_h="x")), f"{WHERE}, field img_h: expected a whole number, got 'x'"),
        (edited(lambda header: header.update(img_w=-1)), f"{WHERE}, field img_w: expected a whole number, got -1"),
        (edited(lambda header: header.update(compression="lz4")), f"{WHERE}, field compression: .*got 'lz4'"),
        (edited(lambda header: header.update(compression=[])), rf"{WHERE}, field compression: .*got \[\]"),
        (edited(lambda header: header.update(bytes=1)), rf"{WHERE}, field bytes: expected \d+ for the shapes"),
        (edited(lambda header: header.update(arrays=None)), f"{WHERE}, field arrays: expected those of objects_id"),
        (edited(lambda header: header["arrays"].pop()), f"{WHERE}, field arrays: expected those of"),
        (edited(array("boxes", 0, "attrs")), f"{WHERE}, field arrays: expected those of"),
        (edited(array("boxes", 0, ["x"])), f"{WHERE}, field arrays: expected those of"),
        (edited(array("boxes", 1, "<f2")), f"{WHERE}, field arrays, boxes: expected dtype <f4, got '<f2'"),
        (edited(array("features", 1, "O")), f"{WHERE}, field arrays, features: expected dtype <f4, got 'O'"),
        (edited(array("features", 1, ["<f4"])), f"{WHERE}, field arrays, features: expected dtype <f4"),
        (edited(array("features", 2, [3])), f"{WHERE}, field arrays, features: expected a shape of 2 numbers"),
        (edited(array("features", 2, [3, -1])), f"{WHERE}, field arrays, features: expected a shape of 2 numbers"),
        (edited(array("features", 2, [3, True])), f"{WHERE}, field arrays, features: expected a shape of 2 numbers"),
        (edited(array("features", 2, [4, 16])), f"{WHERE}, field arrays: expected as many rows in each"),
        (edited(array("boxes", 2, [3, 5])), f"{WHERE}, field arrays: expected as many rows in each and boxes of 4"),
        (edited(array("features", 2, [3, 17])), rf"{WHERE}, field bytes: expected \d+ for the shapes"),
        (edited(array("features", 2, [3, 1 << 31])), f"{WHERE}, field bytes: expected at most 1073741824"),
        (edited(array("features", 2, [3, 1 << 31]), zstd=True), f"{WHERE}, field bytes: expected at most 1073741824"),
        (edited(array("features", 2, [3, 17]), zstd=True), rf"{WHERE}, field bytes: expected a frame of \d+ bytes"),
        (PACKED[:-1], rf"{WHERE}: expected \d+ bytes after its header, got \d+"),
        (PACKED[:-300] + bytes(300), f"{WHERE}, field bytes: expected a whole Zstandard frame, got"),
    ],
)
def test_wrong_values_are_named(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_compact(data, "v")


@pytest.mark.parametrize("zstd", [False, True])
def test_any_damage_is_an_error_or_another_record(zstd: bool) -> None:
    good = encode_compact(record_of(), zstd=zstd)
    random = np.random.default_rng(0)
    for _ in range(3000):
        data = bytearray(good)
        data[random.integers(0, min(len(data), 400))] = random.integers(0, 256)
        try:
            decode_compact(bytes(data[: random.integers(1, len(data) + 1)] if random.random() < 0.5 else data), "v")
        except ValueError as error:
            assert str(error).startswith("v, ")


def test_without_zstandard_a_compressed_value_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "zstandard":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert_same(decode_compact(GOOD, "v"), record_of())
    with pytest.raises(ValueError, match=f"{WHERE}: expected the package zstandard, found none; pip install zstandard"):
        decode_compact(PACKED, "v")
