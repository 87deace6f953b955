"""Encoded image bytes to BGR pixels, with a guard against hostile and damaged files."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.records.failure import ImageFailure

_ORIENTATION = 0x0112
# What a photo collection holds; PIL's other readers (PostScript, FITS, ...) are attack surface.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# PIL warns of damaged EXIF, which real collections are full of and which touches no pixel. Once and for all:
# catch_warnings is not safe in reader threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode_image(data: bytes, pixel_limit: int, exif: bool = False) -> NDArray[np.uint8]:
    """Decode an image as cv2.imread(IMREAD_COLOR | IMREAD_IGNORE_ORIENTATION) would, but strictly.

    Grayscale becomes three equal channels, alpha is dropped, 16-bit samples keep their high byte, CMYK and palettes
    are converted to RGB, an animation gives its first frame, EXIF rotation is not applied unless asked for (a TIFF's
    own orientation tag is, as in cv2). A file that ends before its last pixel is an error, and so is a JPEG without its
    end marker; damage inside JPEG data that keeps the marker shows in the pixels only, and passes as it does in cv2.

    Args:
        data: the encoded file.
        pixel_limit: largest allowed width x height, checked before any pixel is decoded.
        exif: turn and mirror the image as its EXIF orientation says.

    Returns:
        uint8 (H, W, 3), BGR.

    Raises:
        ImageFailure: stage `decode`, with the reason.
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageFailure("decode", "the file is empty (0 bytes)")
    Image.MAX_IMAGE_PIXELS = None  # the limit below is ours, and a failure instead of a warning
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > pixel_limit:
                raise ImageFailure(
                    "decode",
                    f"{width} x {height} = {width * height} pixels, more than the limit of {pixel_limit} "
                    "(a decompression bomb?); raise --pixel_limit if it is real",
                )
            pixels = _to_bgr(image)
            return np.ascontiguousarray(upright(pixels, _orientation(image))) if exif else pixels
    except ImageFailure:
        raise
    except UnidentifiedImageError as error:
        raise ImageFailure("decode", f"not an image of a known format; it begins with {data[:8]!r}") from error
    except Exception as error:  # PIL's readers raise OSError, SyntaxError, ValueError, struct.error, ... on bad files
        raise ImageFailure("decode", f"damaged image: {error}") from error


def upright(pixels: NDArray[np.uint8], orientation: object) -> NDArray[np.uint8]:
    """Turns and mirrors pixels as stored into what a viewer shows, as `PIL.ImageOps.exif_transpose` does.

    Args:
        pixels: uint8 (H, W, 3).
        orientation: EXIF's, 1 to 8; anything else changes nothing.

    Returns:
        A view, uint8 (H, W, 3) or (W, H, 3).
    """
    # From 5 on rows and columns change places; then, by orientation: the rows in reverse, the columns in reverse.
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _orientation(image: Any) -> object:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # damaged EXIF raises SyntaxError, ValueError, struct.error, ... and touches no pixel
        return None


def _to_bgr(image: Any) -> NDArray[np.uint8]:
    image.load()
    if image.mode == "I" and image.format == "TIFF":  # what white is, only its writer knows
        raise ImageFailure("decode", "32-bit or signed samples (mode I); convert it to unsigned 8 or 16 bit")
    if image.mode.startswith("I"):  # 16-bit grayscale, which PIL would clip to white instead of scaling
        gray = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise ImageFailure("decode", "floating-point samples (mode F); convert it to 8 bit")
    image.info.pop("transparency", None)  # convert would warn of what is dropped here
    rgb = np.asarray(image.convert("RGB"))
    return np.ascontiguousarray(rgb[:, :, ::-1])
