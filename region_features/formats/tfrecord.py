"""TFRecord framing: length, masked CRC32C of the length, data, masked CRC32C of the data.

Format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, Protocol

import google_crc32c

from region_features.formats import REMEDY

_HEADER = struct.Struct("<QI")  # length, its CRC
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_MASK = 0xA282EAD8
_MAX_RECORD = 2**31 - 1  # protobuf's largest message
_CHUNK = 16 << 20  # bytes of one read: a damaged length must not reserve memory


class ByteSink(Protocol):
    """A file to write records to; `write` takes all it is given."""

    def write(self, data: bytes, /) -> object: ...  # noqa: D102


class ByteSource(Protocol):
    """A file to read records from; `read` returns nothing only at its end."""

    def read(self, size: int, /) -> bytes: ...  # noqa: D102


def masked_crc(data: bytes) -> int:
    """Return the CRC32C of `data`, rotated and offset as TFRecord stores it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def write_record(stream: ByteSink, data: bytes) -> int:
    """Write one framed record, and return the bytes written, framing included.

    Raises:
        ValueError: the record is larger than a protobuf message can be.
    """
    if len(data) > _MAX_RECORD:
        raise ValueError(f"expected a record of at most {_MAX_RECORD} bytes, got {len(data)}; use fewer boxes an image")
    length = _LENGTH.pack(len(data))
    stream.write(length + _CRC.pack(masked_crc(length)))
    stream.write(data)
    stream.write(_CRC.pack(masked_crc(data)))
    return _HEADER.size + len(data) + _CRC.size


def read_records(stream: ByteSource, source: str) -> Iterator[bytes]:
    """Yield the data of each record from the stream's position, which is a record's start, to the file's end.

    Raises:
        ValueError: the file is cut or damaged; names it and the byte where the bad record starts.
    """
    offset = 0
    while header := _read(stream, _HEADER.size):
        where = f"{source}, record at byte {offset}"
        length = _data_length(header, where)
        data = _read(stream, length)
        _expect_bytes(data, length, "data", where)
        footer = _read(stream, _CRC.size)
        _expect_bytes(footer, _CRC.size, "checksum", where)
        _expect_crc(data, _CRC.unpack(footer)[0], "data", where)
        yield data
        offset += _HEADER.size + length + _CRC.size


def record_offsets(stream: BinaryIO, size: int, source: str) -> Iterator[int]:
    """Yield the byte at which each record's header begins; only headers are read and checked.

    `stream` is unbuffered, and `size` bytes long.

    Raises:
        ValueError: a header is damaged, or the last record is cut off.
    """
    offset = 0
    while offset < size:
        where = f"{source}, record at byte {offset}"
        stream.seek(offset)
        end = offset + _HEADER.size + _data_length(_read(stream, _HEADER.size), where) + _CRC.size
        if end > size:
            raise ValueError(f"{where}: expected it to end at byte {end}, but the file has {size} bytes; {REMEDY}")
        yield offset
        offset = end


def _data_length(header: bytes, where: str) -> int:
    _expect_bytes(header, _HEADER.size, "header", where)
    length, crc = _HEADER.unpack(header)
    _expect_crc(header[: _LENGTH.size], crc, "length", where)
    if length > _MAX_RECORD:
        raise ValueError(f"{where}: expected at most {_MAX_RECORD} bytes of data, got {length}; {REMEDY}")
    return length


def _read(stream: ByteSource, size: int) -> bytes:
    """Read `size` bytes, fewer only at the end of the file."""
    pieces = []
    while size and (piece := stream.read(min(size, _CHUNK))):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _expect_bytes(data: bytes, size: int, part: str, where: str) -> None:
    if len(data) != size:
        raise ValueError(f"{where}: expected {size} bytes of {part}, got {len(data)}; {REMEDY}")


def _expect_crc(data: bytes, stored: int, part: str, where: str) -> None:
    actual = masked_crc(data)
    if actual != stored:
        raise ValueError(f"{where}: expected checksum {stored:#010x} of the {part}, got {actual:#010x}; {REMEDY}")
