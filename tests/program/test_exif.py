"""EXIF rotation: off by default, as Pillow's exif_transpose where it is asked for."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from region_features.images.decode import decode_image, upright
from tests.samples.images import LIMIT, encode, photo

ORIENTATION = 0x0112


def tagged(orientation: object, kind: str = "PNG", mode: str = "RGB") -> bytes:
    image = photo(13, 21).convert(mode)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(image, kind, exif=exif)


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[:, :, ::-1]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations_turn_as_pillow_turns_them(orientation: int, kind: str) -> None:
    data = tagged(orientation, kind)
    stored, turned = decode_image(data, LIMIT), decode_image(data, LIMIT, exif=True)
    np.testing.assert_array_equal(turned, by_pillow(data))
    assert stored.shape == (13, 21, 3) and turned.flags["C_CONTIGUOUS"]
    assert turned.shape == ((21, 13, 3) if orientation > 4 else (13, 21, 3))
    assert np.array_equal(stored, turned) == (orientation == 1)


def test_the_eight_orientations_differ() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert len({(upright(pixels, n).shape, upright(pixels, n).tobytes()) for n in range(1, 9)}) == 8


def test_orientation_6_is_a_clockwise_quarter_turn() -> None:
    pixels = np.array([[[1], [2], [3]], [[4], [5], [6]]], np.uint8).repeat(3, axis=2)
    assert upright(pixels, 6)[:, :, 0].tolist() == [[4, 1], [5, 2], [6, 3]]


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_unknown_orientation_changes_nothing(orientation: int) -> None:
    data = tagged(orientation)
    np.testing.assert_array_equal(decode_image(data, LIMIT, exif=True), decode_image(data, LIMIT))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_changes_nothing() -> None:
    for exif in (b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"x"):
        data = encode(photo(13, 21), "JPEG", exif=exif)
        np.testing.assert_array_equal(decode_image(data, LIMIT, exif=True), decode_image(data, LIMIT))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16"])
def test_every_pixel_format_is_turned(mode: str) -> None:
    if mode == "I;16":
        gray = np.arange(13 * 21, dtype=np.uint16).reshape(13, 21) * 200
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        data = encode(Image.fromarray(gray), "PNG", exif=exif)
    else:
        data = tagged(6, mode=mode)
    stored = decode_image(data, LIMIT)
    np.testing.assert_array_equal(decode_image(data, LIMIT, exif=True), np.rot90(stored, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_once(orientation: int) -> None:
    data = tagged(orientation, "TIFF")
    np.testing.assert_array_equal(decode_image(data, LIMIT, exif=True), by_pillow(data))
