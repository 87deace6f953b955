"""Where the records of a TFRecord file begin, without reading their data."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from region_features.formats.tfrecord import masked_crc

_HEADER = struct.Struct("<QI")  # length, its CRC
_LENGTH_BYTES = 8
_CRC_BYTES = 4


def record_offsets(stream: BinaryIO, size: int, source: str) -> Iterator[int]:
    """Gives the byte at which each record's header begins; only headers are read and checked.

    Args:
        stream: an unbuffered, seekable binary file.
        size: its length in bytes.
        source: its name, for messages.

    Raises:
        ValueError: a header is damaged, or the last record is cut off.
    """
    offset = 0
    while offset < size:
        where = f"{source}, record at byte {offset}"
        stream.seek(offset)
        header = stream.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise ValueError(f"{where}: expected {_HEADER.size} bytes of header, got {len(header)}; {_REMEDY}")
        length, crc = _HEADER.unpack(header)
        if masked_crc(header[:_LENGTH_BYTES]) != crc:
            raise ValueError(f"{where}: expected a length with its checksum, got other bytes; {_REMEDY}")
        end = offset + _HEADER.size + length + _CRC_BYTES
        if end > size:
            raise ValueError(f"{where}: expected it to end at byte {end}, but the file has {size} bytes; {_REMEDY}")
        yield offset
        offset = end


_REMEDY = "the file is damaged or no TFRecord file: delete it and write it again"
