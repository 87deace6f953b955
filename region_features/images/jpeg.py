"""Decode JPEGs by libjpeg-turbo, and find those that lack data.

libjpeg fills in the pixels that a file lacks, and tells no more than the first of its warnings. Where that one is
harmless, the file is decoded again without what causes it, scan by scan: a later warning may not be.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from region_features.records.failure import ImageFailure

# libjpeg's warnings at which it fills in pixels that the file lacks. Its others leave every pixel to the file, and real
# collections are full of them: bytes between the data and the next marker, odd versions and parameters of headers.
_PIXELS_MADE_UP = re.compile(r"Premature end of JPEG file|Corrupt JPEG data: (?!\d+ extraneous bytes)")
_EXTRANEOUS = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_START, _END = b"\xff\xd8", b"\xff\xd9"
_SCAN, _FRAMES = 0xDA, (0xC0, 0xC1)  # of the frames those that are decoded scan by scan, without refinement
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD8))
_APPLICATIONS_AND_COMMENT = (*range(0xE0, 0xF0), 0xFE)
_END_OF_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
# Encoders write about ten. A file with thousands would keep a decoder busy for days; of one with more than a few,
# libjpeg's first warning has to do.
_MOST_SCANS, _FEW_SCANS = 500, 20
_ROUNDS = 4  # libjpeg counts only a part of the bytes that it skips


def decode_strictly(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Decode a gray or RGB JPEG to PIL's pixels, uint8 (H, W, 3) BGR; return None if PIL has to decode it.

    Nothing is known of a JPEG whose chroma sampling TurboJPEG has no name for.

    Args:
        data: content of the file.
        size: (width, height) of PIL's reading of its header.

    Raises:
        ImageFailure: stage `decode`: it has too many scans, or libjpeg says that pixels are made up.
    """
    import simplejpeg

    count = data.count(bytes([0xFF, _SCAN]))
    if count > _MOST_SCANS:
        raise ImageFailure("decode", f"{count} scans, expected at most {_MOST_SCANS} (made to keep decoders busy?)")

    # Real photographs have version 0.00, which would be the first warning.
    data = data.replace(b"JFIF\0\0", b"JFIF\0\1", 1)
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data, strict=False)
        if (width, height) != size:  # the limit of pixels was checked on PIL's reading
            return None
        return np.asarray(simplejpeg.decode_jpeg(data, "BGR", strict=True))
    except ValueError as error:
        warning = str(error)
    if not _PIXELS_MADE_UP.search(warning):
        warning = _later_warning(data) or ""
    if warning:
        raise ImageFailure("decode", f"damaged image: {warning}")
    return None


def _later_warning(data: bytes) -> str | None:
    """Return the first warning of made-up pixels that another warning hides; None if there is none."""
    scans = _split(data)
    if len(scans) > _FEW_SCANS:
        return None
    content = _START
    for scan in scans:
        warning = _first_warning(content + scan)
        for _ in range(_ROUNDS):
            extraneous = _EXTRANEOUS.search(warning)
            if not extraneous:
                break
            scan = scan[: -int(extraneous[1])]
            warning = _first_warning(content + scan)
        if _PIXELS_MADE_UP.search(warning):
            return warning
        content += scan
    return None


def _first_warning(content: bytes) -> str:
    import simplejpeg

    try:
        simplejpeg.decode_jpeg(content + _END, "BGR", min_factor=8, strict=True)
    except ValueError as error:
        return str(error)
    return ""


def _split(data: bytes) -> list[bytes]:
    """Split a JPEG into its scans, each with the segments before it; leave out what libjpeg warns of beside the data.

    Left out are applications' segments, comments, bytes between segments, and odd parameters of a sequential scan.
    """
    scans, segments = [], b""
    position, is_sequential = len(_START), False
    while (position := data.find(b"\xff", position)) >= 0 and position + 4 <= len(data):
        marker = data[position + 1]
        if marker in (0x00, 0xFF, *_WITHOUT_LENGTH):
            position += 1
            continue
        if marker == _END[1]:
            break
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position:end]
        is_sequential |= marker in _FRAMES
        if marker == _SCAN:
            if is_sequential:
                segment = segment[:-3] + b"\x00\x3f\x00"
            following = _END_OF_SCAN.search(data, end)
            begin, end = end, following.start() if following else len(data)
            scans.append(segments + segment + data[begin:end])
            segments = b""
        elif marker not in _APPLICATIONS_AND_COMMENT:
            segments += segment
        position = end
    return scans
