from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from region_features.formats import tfrecord
from region_features.formats.tfrecord import masked_crc, read_records, write_record

RECORDS = [b"first", b"", b"\x00" * 100, bytes(range(256)) * 40]


def framed(records: list[bytes]) -> bytes:
    stream = io.BytesIO()
    written = [write_record(stream, record) for record in records]
    assert sum(written) == len(stream.getvalue())
    return stream.getvalue()


class TricklingStream(io.BytesIO):
    """Gives fewer bytes than asked for, as network streams may."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(7, size if size is not None and size >= 0 else 7))


def test_round_trip() -> None:
    assert list(read_records(io.BytesIO(framed(RECORDS)), "x")) == RECORDS
    assert list(read_records(TricklingStream(framed(RECORDS)), "x")) == RECORDS
    assert list(read_records(io.BytesIO(), "x")) == []


def test_known_bytes() -> None:
    # RFC 3720, B.4: CRC32C of 32 zero bytes is 8a9136aa.
    crc = 0x8A9136AA
    assert masked_crc(bytes(32)) == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32


def test_tensorflow_reads_and_writes_the_same(tmp_path: Path) -> None:
    import tensorflow as tf

    ours, theirs = tmp_path / "ours.tfrecord", tmp_path / "theirs.tfrecord"
    ours.write_bytes(framed(RECORDS))
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(ours))] == RECORDS
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for record in RECORDS:
            writer.write(record)
    assert theirs.read_bytes() == ours.read_bytes()


def test_every_cut_is_found_and_placed() -> None:
    whole = framed([b"first", b"second"])
    second = len(framed([b"first"]))
    for size in range(1, len(whole)):
        if size == second:
            continue
        start = 0 if size < second else second
        with pytest.raises(ValueError, match=rf"^shard-7, record at byte {start}: expected \d+ bytes of"):
            list(read_records(io.BytesIO(whole[:size]), "shard-7"))


def test_every_flipped_byte_is_found() -> None:
    whole = framed([b"first", b"second"])
    second = len(framed([b"first"]))
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        start = 0 if at < second else second
        with pytest.raises(ValueError, match=rf"^shard-7, record at byte {start}: expected checksum"):
            list(read_records(io.BytesIO(bytes(damaged)), "shard-7"))


@pytest.mark.parametrize(
    ("length", "message"),
    [(2**63, "expected at most 2147483647 bytes of data"), (2**31 - 1, "expected 2147483647 bytes of data, got 9")],
)
def test_a_wild_length_allocates_nothing(length: int, message: str) -> None:
    asked = []

    class Spy(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(size)
            return super().read(size)

    packed = struct.pack("<Q", length)
    stream = Spy(packed + struct.pack("<I", masked_crc(packed)) + b"123456789")
    with pytest.raises(ValueError, match=message):
        list(read_records(stream, "x"))
    assert max(size for size in asked if size is not None) <= 16 << 20


def test_too_large_a_record_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, "_MAX_RECORD", 10)
    stream = io.BytesIO()
    with pytest.raises(ValueError, match="expected a record of at most 10 bytes, got 11"):
        write_record(stream, bytes(11))
    assert stream.getvalue() == b""
