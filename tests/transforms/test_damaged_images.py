"""Damaged and hostile images fail with a reason, and never give half an image."""

from __future__ import annotations

import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from region_features.images.decode import decode_image
from region_features.records.failure import ImageFailure
from tests.conftest import ROOT
from tests.samples.images import LIMIT, encode, photo, png, reason_of

# pytest resets the filter that decode.py sets; test_no_warning_of_pil_reaches_the_terminal runs without pytest.
END = b"\xff\xd9"  # a JPEG's end marker
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty (0 bytes)"),
        (b"I am text", "not an image of a known format; it begins with b'I am tex'"),
        (b"<!DOCTYPE html><html></html>", "not an image of a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image of a known format"),
        (bytes(1000), "not an image of a known format"),
        (b"\xff\xd8\xff", "not an image of a known format"),
        (b"\x89PNG\r\n\x1a\n", "not an image of a known format"),
        (b"P6 0 5 255\n", "not an image of a known format"),
        (b"P6 5 0 255\n", "not an image of a known format"),
    ],
)
def test_data_of_an_unknown_format_are_refused(data: bytes, words: str) -> None:
    assert words in reason_of(data)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_jpeg_cut_anywhere_is_an_error(options: dict[str, Any]) -> None:
    for image in (photo(40, 48), photo(37, 29).convert("L")):
        data = encode(image, "JPEG", **options)
        # Byte by byte at the end, where the end marker is lost.
        for end in [*range(1, len(data), 37), *range(len(data) - 16, len(data))]:
            reason_of(data[:end])
        assert "Premature end of JPEG file" in reason_of(data[:-2])


def test_bytes_after_the_end_of_a_jpeg_are_ignored() -> None:
    data = encode(photo(), "JPEG")
    np.testing.assert_array_equal(decode_image(data + b"\0junk", LIMIT), decode_image(data, LIMIT))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_cut_jpeg_with_an_end_marker_is_an_error(mode: str, options: dict[str, Any]) -> None:
    data = encode(photo(200, 150).convert(mode), "JPEG", **options)
    for end in (len(data) // 2, len(data) * 3 // 4):
        assert re.search("premature end of data segment|instead of RST", reason_of(data[:end] + END))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "premature end of data segment"),
        ({"progressive": True}, "premature end of data segment"),
        ({"restart_marker_rows": 1}, "found marker 0xd9 instead of RST"),
    ],
)
def test_a_small_jpeg_with_the_header_of_a_huge_one_is_an_error(options: dict[str, Any], words: str) -> None:
    data = with_size(encode(photo(), "JPEG", **options), 1900, 1900)
    assert words in reason_of(data)
    assert "more than the limit" in reason_of(data, 10**6)


def test_a_jpeg_with_a_wrong_huffman_code_is_an_error() -> None:
    data = encode(photo(200, 150), "JPEG")
    middle = len(data) // 2
    ones = b"\xff\0" * 10  # no code consists of ones alone
    assert "bad Huffman code" in reason_of(data[:middle] + ones + data[middle + len(ones) :])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("extra", [bytes(50), bytes(range(1, 200))])
def test_extraneous_bytes_before_the_end_marker_are_ignored(mode: str, extra: bytes) -> None:
    data = encode(photo().convert(mode), "JPEG")
    np.testing.assert_array_equal(decode_image(data[:-2] + extra + END, LIMIT), decode_image(data, LIMIT))


def test_an_odd_version_of_jfif_is_harmless_and_hides_no_damage() -> None:
    data = encode(photo(200, 150), "JPEG")
    for version in (b"\0\0", b"\3\1"):
        odd = data.replace(b"JFIF\0\1\1", b"JFIF\0" + version)
        assert odd != data
        np.testing.assert_array_equal(decode_image(odd, LIMIT), decode_image(data, LIMIT))
    reason_of(data.replace(b"JFIF\0\1\1", b"JFIF\0\0\0")[: len(data) // 2] + END)


def ends_of_scans(data: bytes) -> list[int]:
    starts = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    ends = [re.compile(rb"\xff[^\x00\xd0-\xd7]").search(data, start + 2) for start in starts]
    return [end.start() for end in ends if end]


def oddities(data: bytes) -> dict[str, bytes]:
    """Return a JPEG with what libjpeg warns of before it comes to the end of the data, each harmless in itself."""
    tables = data.index(b"\xff\xdb")
    scan = data.index(b"\xff\xda")
    parameters = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big") - 3
    made = {
        "version of JFIF": data.replace(b"JFIF\0\1", b"JFIF\0\3"),
        "bytes between segments": data[:tables] + b"junk" + data[tables:],
        "colours by Adobe": data[:tables] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x07" + data[tables:],
    }
    ends = ends_of_scans(data)
    if len(ends) > 1:
        made["bytes after a scan"] = data[: ends[2]] + b"more than a few bytes" + data[ends[2] :]
    else:
        made["parameters of a scan"] = data[:parameters] + b"\x01\x3e\x00" + data[parameters + 3 :]
    return made


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_harmless_warning_of_libjpeg_hides_no_damage(mode: str, options: dict[str, Any]) -> None:
    data = encode(photo(200, 150).convert(mode), "JPEG", **options)
    whole, ends = decode_image(data, LIMIT), ends_of_scans(data)
    # The longest scan after those that the odd bytes follow.
    begin, end = max(pairwise([data.index(b"\xff\xda"), *ends][-7:]), key=lambda scan: scan[1] - scan[0])
    for name, odd in oddities(data).items():
        if (mode, name) == ("CMYK", "colours by Adobe"):
            continue  # there PIL reads other colours
        if name != "version of JFIF" or mode != "CMYK":  # only Adobe's segment describes those
            assert odd != data
        np.testing.assert_array_equal(decode_image(odd, LIMIT), whole)
        for kept in ((end - begin) // 3, (end - begin) * 2 // 3):
            cut = odd[: len(odd) - len(data) + begin + kept] + END
            assert re.search("premature end of data segment|instead of RST", reason_of(cut)), (name, kept)


def test_a_jpeg_of_very_many_scans_is_an_error() -> None:
    data = encode(photo(200, 150), "JPEG", progressive=True)
    end = ends_of_scans(data)[-1]
    refinement = data[data.rindex(b"\xff\xc4") : end] + b"some bytes"
    assert decode_image(data[:end] + refinement * 400 + END, LIMIT).shape == (200, 150, 3)
    assert "4010 scans, expected at most 500" in reason_of(data[:end] + refinement * 4000 + END)


def with_size(data: bytes, height: int, width: int) -> bytes:
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))  # baseline or progressive
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


@pytest.mark.parametrize("level", [0, 9])
def test_a_cut_png_is_an_error_or_has_all_its_pixels(level: int) -> None:
    data = encode(photo(), "PNG", compress_level=level)
    whole = decode_image(data, LIMIT)
    outcomes = []
    for end in [*range(1, len(data), 101), *range(len(data) - 40, len(data))]:
        try:
            np.testing.assert_array_equal(decode_image(data[:end], LIMIT), whole)
            outcomes.append(end)
        except ImageFailure as failure:
            assert failure.stage == "decode"
    # IEND, the checksums of IDAT and of zlib: 12 + 4 + 4 bytes without a pixel in them, and zlib's end of block.
    assert outcomes == list(range(outcomes[0], len(data)))
    assert len(data) - 23 <= outcomes[0] <= len(data) - 20


@pytest.mark.parametrize("kind", ["GIF", "BMP", "PPM", "WEBP", "TIFF"])
def test_a_cut_file_of_another_format_is_an_error(kind: str) -> None:
    data = encode(photo(60, 80), kind)
    for end in (1, 4, 20, len(data) // 4, len(data) // 2, len(data) - 100, len(data) - 3):
        reason_of(data[:end])


@pytest.mark.parametrize("where", [30, 300, 1500])
def test_a_png_with_a_flipped_byte_is_an_error(where: int) -> None:
    data = bytearray(encode(photo(), "PNG"))
    data[where] ^= 0xFF
    reason_of(bytes(data))


def test_random_damage_gives_pixels_or_a_failure() -> None:
    rng = np.random.default_rng(7)
    outcomes = {"pixels": 0, "failure": 0}
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"):
        whole = np.frombuffer(encode(photo(24, 32), kind), np.uint8)
        for _ in range(40):
            data = whole.copy()
            data[rng.integers(0, len(data), 5)] = rng.integers(0, 256, 5)
            try:
                pixels = decode_image(data.tobytes(), 10**6)
            except ImageFailure as failure:
                assert failure.stage == "decode" and failure.reason
                outcomes["failure"] += 1
            else:
                assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size
                outcomes["pixels"] += 1
    assert min(outcomes.values()) >= 40


def bombs() -> dict[str, bytes]:
    side = 100_000
    bmp = bytearray(encode(photo(8, 8), "BMP"))
    bmp[18:26] = struct.pack("<ii", side, side)
    gif = bytearray(encode(photo(8, 8).quantize(8), "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    return {
        "png": png(side, side, 8, 2, b""),
        "ppm": b"P6 100000 100000 255\n",
        "bmp": bytes(bmp),
        "gif": bytes(gif),
    }


@pytest.mark.parametrize("name", list(bombs()))
def test_a_decompression_bomb_is_refused_by_its_header(name: str) -> None:
    data = bombs()[name]
    tracemalloc.start()
    reason = reason_of(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    side = 65535 if name == "gif" else 100_000
    assert f"{side} x {side} = {side * side} pixels, more than the limit of {LIMIT}" in reason
    assert "--pixel_limit" in reason
    assert peak < 2**20


def test_the_pixel_limit_itself_is_allowed() -> None:
    data = encode(photo(20, 30), "PNG")
    assert decode_image(data, 600).shape == (20, 30, 3)
    assert "30 x 20 = 600 pixels, more than the limit of 599" in reason_of(data, 599)


def test_no_warning_of_pil_reaches_the_terminal(tmp_path: Path) -> None:
    # In a process of its own, since pytest changes the filters of warnings.
    bad_exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x1a\x01\x05\0\x01\0\0\0\xff\xff\0\0"
    palette = photo().quantize(8)
    (tmp_path / "a").write_bytes(encode(photo(), "JPEG", exif=bad_exif))
    (tmp_path / "b").write_bytes(encode(palette, "PNG", transparency=bytes(range(8))))
    (tmp_path / "c").write_bytes(png(10**5, 10**5, 8, 2, b""))
    code = (
        "import pathlib, sys\nfrom region_features.images.decode import *\n"
        "for name in 'abc':\n"
        "    try: print(decode_image(pathlib.Path(sys.argv[1], name).read_bytes(), 89_000_000).shape)\n"
        "    except ImageFailure as failure: print(failure.stage)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n") == ["(61, 83, 3)", "(61, 83, 3)", "decode", ""]
    assert done.stderr == ""


def test_a_failure_survives_pickling_and_is_one_line() -> None:
    failure = pickle.loads(pickle.dumps(ImageFailure("read", "two\n lines\tand  blanks")))
    assert (failure.stage, failure.reason) == ("read", "two lines and blanks")
