"""Small images in every encoding, and their decoding by OpenCV."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from region_features.images.decode import decode_image
from region_features.records.failure import ImageFailure

LIMIT = 89_000_000
# Without EXIF rotation.
CV2_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def smooth(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    """Return smooth colours, which JPEG changes little."""
    blocks = np.random.default_rng(height * width).integers(0, 256, (7, 9, channels), dtype=np.uint8)
    resized = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(resized, np.uint8).reshape(height, width, channels)


def photo(height: int = 61, width: int = 83) -> Image.Image:
    return Image.fromarray(smooth(height, width))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def by_cv2(data: bytes) -> NDArray[np.uint8]:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), CV2_FLAGS)
    assert pixels is not None
    return np.asarray(pixels, np.uint8)


def png(width: int, height: int, depth: int, kind: int, rows: bytes) -> bytes:
    """Assemble a PNG of a kind that PIL does not write; each row begins with its filter byte."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def reason_of(data: bytes, limit: int = LIMIT) -> str:
    with pytest.raises(ImageFailure) as caught:
        decode_image(data, limit)
    assert caught.value.stage == "decode"
    assert "\n" not in caught.value.reason
    return caught.value.reason
