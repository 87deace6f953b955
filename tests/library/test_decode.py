"""Images of every format are decoded as OpenCV decodes them, bit for bit if it can."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image

from region_features.images.decode import decode_image
from tests.samples.images import LIMIT, by_cv2, encode, photo, png, reason_of, smooth

# An EXIF block with the orientation of a quarter turn.
ROTATED = Image.Exif()
ROTATED[0x0112] = 6


@pytest.mark.parametrize("size", [(61, 83), (64, 96), (8, 8), (1, 1), (17, 300)])
@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True}])
def test_ordinary_jpegs_equal_opencvs_bit_for_bit(size: tuple[int, int], options: dict[str, Any]) -> None:
    for image in (photo(*size), photo(*size).convert("L")):
        data = encode(image, "JPEG", quality=90, **options)
        pixels = decode_image(data, LIMIT)
        np.testing.assert_array_equal(pixels, by_cv2(data))
        assert pixels.dtype == np.uint8 and pixels.shape == (*size, 3) and pixels.flags.c_contiguous


@pytest.mark.parametrize("quality", [10, 75, 95])
@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2},
        {"subsampling": 2, "progressive": True},
        {"subsampling": 1, "restart_marker_blocks": 3},
        {"keep_rgb": True},
    ],
)
def test_jpegs_equal_pillows_bit_for_bit(quality: int, options: dict[str, Any]) -> None:
    for size in [(1, 1), (7, 9), (16, 16), (33, 47), (120, 161)]:
        noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        for image in (photo(*size), photo(*size).convert("L"), Image.fromarray(noise)):
            data = encode(image, "JPEG", quality=quality, **options)
            rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            np.testing.assert_array_equal(decode_image(data, LIMIT), rgb[:, :, ::-1])


def test_a_jpeg_of_unusual_chroma_sampling_equals_pillows() -> None:
    data = bytearray(encode(photo(64, 64), "JPEG", subsampling=0))
    data[data.index(b"\xff\xc0") + 14] = 0x21  # Cb alone is twice as wide as the other components
    with Image.open(io.BytesIO(data)) as image:
        rgb = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode_image(bytes(data), LIMIT), rgb[:, :, ::-1])


def test_channels_are_bgr() -> None:
    pixels = decode_image(encode(Image.new("RGB", (2, 1), (10, 20, 30)), "PNG"), LIMIT)
    assert pixels.tolist() == [[[30, 20, 10]] * 2]


def lossless() -> dict[str, bytes]:
    image, gray = photo(), photo().convert("L")
    palette = image.quantize(64)
    return {
        "png": encode(image, "PNG"),
        "gray png": encode(gray, "PNG"),
        "1-bit png": encode(image.convert("1"), "PNG"),
        "2-bit palette png": encode(image.quantize(4), "PNG"),
        "palette png": encode(palette, "PNG"),
        "palette png with one transparent colour": encode(palette, "PNG", transparency=3),
        "palette png with graded transparency": encode(palette, "PNG", transparency=bytes(range(64))),
        "gray png with a transparent value": encode(gray, "PNG", transparency=3),
        "rgb png with a transparent colour": encode(image, "PNG", transparency=(1, 2, 3)),
        "bmp": encode(image, "BMP"),
        "palette bmp": encode(palette, "BMP"),
        "gif": encode(palette, "GIF"),
        "ppm": encode(image, "PPM"),
        "pgm": encode(gray, "PPM"),
        "webp": encode(image, "WEBP", lossless=True),
        "lossy webp": encode(image, "WEBP"),
        "tiff": encode(image, "TIFF"),
        "lzw tiff": encode(image, "TIFF", compression="tiff_lzw"),
        "deflate tiff": encode(image, "TIFF", compression="tiff_adobe_deflate"),
        "mpo": encode(image, "MPO", save_all=True, append_images=[Image.new("RGB", image.size)]),
    }


@pytest.mark.parametrize("name", list(lossless()))
def test_lossless_formats_equal_opencvs_bit_for_bit(name: str) -> None:
    data = lossless()[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(decode_image(data, LIMIT), by_cv2(data))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_dropped_and_not_composited(kind: str) -> None:
    colours = smooth(20, 30, 4)
    colours[:5, :, 3] = 0  # transparent pixels keep their colours
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = encode(Image.fromarray(colours), kind, **options)
    np.testing.assert_array_equal(decode_image(data, LIMIT), colours[:, :, 2::-1])


def test_gray_with_alpha_is_gray() -> None:
    gray, alpha = smooth(20, 30, 2).transpose(2, 0, 1)
    data = encode(Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)]), "PNG")
    np.testing.assert_array_equal(decode_image(data, LIMIT), np.repeat(gray[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(decode_image(data, LIMIT), by_cv2(data))


@pytest.mark.parametrize(("channels", "kind"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_16_bit_pngs_keep_the_high_byte_as_opencv_does(channels: int, kind: int) -> None:
    samples = np.random.default_rng(channels).integers(0, 65536, (11, 13, channels)).astype(">u2")
    data = png(13, 11, 16, kind, b"".join(b"\0" + row.tobytes() for row in samples))
    colour = (samples >> 8).astype(np.uint8)[:, :, : 3 if channels > 2 else 1]
    expected = np.repeat(colour, 3, axis=2) if channels < 3 else colour[:, :, ::-1]
    np.testing.assert_array_equal(decode_image(data, LIMIT), expected)
    np.testing.assert_array_equal(by_cv2(data), expected)


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_gray_tiffs_keep_the_high_byte(order: str) -> None:
    samples = np.array([[0, 255, 256], [257, 32768, 65535]], order + "u2")
    tags = [(256, 3), (257, 2), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 2), (279, 12)]
    data = (b"MM" if order == ">" else b"II") + struct.pack(order + "HI", 42, 20) + samples.tobytes()
    data += struct.pack(order + "H", len(tags))
    data += b"".join(struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in tags) + bytes(4)
    assert decode_image(data, LIMIT)[:, :, 1].tolist() == [[0, 0, 1], [1, 128, 255]]


def test_16_bit_pgm_keeps_the_high_byte() -> None:
    samples = np.array([[0, 255, 256], [257, 32768, 65535]], ">u2")
    data = b"P5 3 2 65535\n" + samples.tobytes()
    assert decode_image(data, LIMIT)[:, :, 0].tolist() == [[0, 0, 1], [1, 128, 255]]


@pytest.mark.parametrize("highest", [200, 60_000, 2**31 - 1])
def test_32_bit_samples_are_refused_however_small(highest: int) -> None:
    samples = np.linspace(0, highest, 100).reshape(10, 10).astype(np.int32)
    assert "32-bit" in reason_of(encode(Image.fromarray(samples), "TIFF"))


@pytest.mark.parametrize("data", [encode(Image.new("F", (4, 4), 0.5), "TIFF"), b"Pf\n2 1\n-1.0\n" + bytes(8)])
def test_floating_point_samples_are_refused(data: bytes) -> None:
    assert "floating-point" in reason_of(data)


def cmyk_jpegs() -> dict[str, bytes]:
    image = Image.merge("CMYK", [Image.fromarray(channel) for channel in smooth(60, 80, 4).transpose(2, 0, 1)])
    data = encode(image, "JPEG", quality=95)
    adobe = data.index(b"Adobe")
    ycck = bytearray(data)
    ycck[adobe + len(b"Adobe") + 6] = 2
    segment = data[adobe - 4 : adobe - 2 + int.from_bytes(data[adobe - 2 : adobe], "big")]
    return {"cmyk": data, "ycck": bytes(ycck), "cmyk without Adobe's marker": data.replace(segment, b"")}


@pytest.mark.parametrize("name", list(cmyk_jpegs()))
def test_cmyk_jpegs_are_within_two_levels_of_opencvs(name: str) -> None:
    data = cmyk_jpegs()[name]
    difference = np.abs(decode_image(data, LIMIT).astype(int) - by_cv2(data))
    assert difference.max() <= 2
    assert by_cv2(data).std() > 10  # the image is not flat


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    first = photo().quantize(64).convert("RGB")
    more = [Image.new("RGB", first.size, colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(first, kind, save_all=True, append_images=more, **options)
    np.testing.assert_array_equal(decode_image(data, LIMIT), np.asarray(first)[:, :, ::-1])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_rotation_is_not_applied_by_default(kind: str) -> None:
    plain, rotated = encode(photo(), kind), encode(photo(), kind, exif=ROTATED.tobytes())
    assert np.asarray(Image.open(io.BytesIO(rotated)).getexif()[0x0112]) == 6
    np.testing.assert_array_equal(decode_image(rotated, LIMIT), decode_image(plain, LIMIT))
    np.testing.assert_array_equal(decode_image(rotated, LIMIT), by_cv2(rotated))


def test_a_tiffs_own_orientation_is_applied_as_opencv_does() -> None:
    data = encode(photo(), "TIFF", exif=ROTATED)
    assert decode_image(data, LIMIT).shape == (83, 61, 3)
    np.testing.assert_array_equal(decode_image(data, LIMIT), by_cv2(data))
