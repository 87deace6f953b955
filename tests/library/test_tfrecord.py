"""TFRecord framing: the bytes of tensorflow, and every cut and flipped byte noticed."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from region_features.formats import tfrecord
from region_features.formats.tfrecord import masked_crc, read_records, record_offsets, write_record

RECORDS = [b"first", b"", b"\x00" * 100, bytes(range(256)) * 40]


def framed(records: list[bytes]) -> bytes:
    stream = io.BytesIO()
    written = [write_record(stream, record) for record in records]
    assert sum(written) == len(stream.getvalue())
    return stream.getvalue()


class TricklingStream(io.BytesIO):
    """Return fewer bytes than asked for, as network streams may."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(7, size if size is not None and size >= 0 else 7))


def test_round_trip() -> None:
    assert list(read_records(io.BytesIO(framed(RECORDS)), "x")) == RECORDS
    assert list(read_records(TricklingStream(framed(RECORDS)), "x")) == RECORDS
    assert list(read_records(io.BytesIO(), "x")) == []


def test_record_offsets_are_those_of_the_headers() -> None:
    data = framed(RECORDS)
    offsets = list(record_offsets(io.BytesIO(data), len(data), "x"))
    starts = [len(framed(RECORDS[:count])) for count in range(len(RECORDS))]
    assert offsets == starts
    for offset, record in zip(offsets, RECORDS, strict=True):
        assert next(read_records(io.BytesIO(data[offset:]), "x")) == record


def test_record_offsets_refuse_a_cut_off_record() -> None:
    data = framed([b"first", b"second"])[:-1]
    second = len(framed([b"first"]))
    with pytest.raises(ValueError, match=rf"^shard-7, record at byte {second}: expected it to end at byte"):
        list(record_offsets(io.BytesIO(data), len(data), "shard-7"))


def test_the_checksum_of_rfc_3720_masked_as_tfrecord_does() -> None:
    # RFC 3720, B.4: CRC32C of 32 zero bytes is 8a9136aa.
    crc = 0x8A9136AA
    assert masked_crc(bytes(32)) == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32


def test_tensorflow_reads_our_file_and_writes_the_same_bytes(tmp_path: Path) -> None:
    import tensorflow as tf

    ours, theirs = tmp_path / "ours.tfrecord", tmp_path / "theirs.tfrecord"
    ours.write_bytes(framed(RECORDS))
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(ours))] == RECORDS
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for record in RECORDS:
            writer.write(record)
    assert theirs.read_bytes() == ours.read_bytes()


def test_every_cut_is_noticed_and_its_record_named() -> None:
    whole = framed([b"first", b"second"])
    second = len(framed([b"first"]))
    for size in range(1, len(whole)):
        if size == second:  # a whole record: no cut
            continue
        start = 0 if size < second else second
        with pytest.raises(ValueError, match=rf"^shard-7, record at byte {start}: expected \d+ bytes of"):
            list(read_records(io.BytesIO(whole[:size]), "shard-7"))


def test_every_flipped_byte_is_noticed() -> None:
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
def test_a_damaged_length_reserves_no_memory(length: int, message: str) -> None:
    requested: list[int] = []

    class CountingStream(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            requested.append(size)
            return super().read(size)

    packed = struct.pack("<Q", length)
    stream = CountingStream(packed + struct.pack("<I", masked_crc(packed)) + b"123456789")
    with pytest.raises(ValueError, match=message):
        list(read_records(stream, "x"))
    assert max(requested) <= 16 << 20


def test_a_record_too_large_for_protobuf_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, "_MAX_RECORD", 10)
    stream = io.BytesIO()
    with pytest.raises(ValueError, match="expected a record of at most 10 bytes, got 11"):
        write_record(stream, bytes(11))
    assert stream.getvalue() == b""
