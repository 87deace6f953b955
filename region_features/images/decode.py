"""Decode image files to BGR pixels, and refuse hostile and damaged ones."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.images.jpeg import decode_strictly
from region_features.records.failure import ImageFailure

_ORIENTATION = 0x0112  # EXIF's tag
# The formats of photo collections; PIL's other readers (PostScript, FITS, ...) are attack surface.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# Bytes a pixel until the image is prepared: 3 decoded, and 12 in float32 before they are resized. Decoding alone takes
# no more, except by the WebP decoder.
_WORKING_BYTES, _WEBP_WORKING_BYTES = 15, 18
# Real collections are full of damaged EXIF, which changes no pixel. The filter is global, since catch_warnings is not
# safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode_image(data: bytes, pixel_limit: int, exif: bool = False) -> NDArray[np.uint8]:
    """Decode an image as cv2.imread(IMREAD_COLOR | IMREAD_IGNORE_ORIENTATION) would, but strictly.

    Grayscale becomes three equal channels, alpha is dropped, 16-bit samples keep their high byte, CMYK and palettes
    become RGB, and an animation its first frame. A TIFF's own orientation tag is applied, as in cv2. A file that lacks
    data for some of its pixels and a JPEG without its end marker are errors. Damage that changes JPEG data without
    shortening them may only show in the pixels, as in cv2: Huffman codes have no checksum.

    Args:
        data: content of the file.
        pixel_limit: largest allowed width x height, checked before pixels are decoded.
        exif: rotate and mirror the image by its EXIF orientation.

    Returns:
        uint8 (H, W, 3), BGR.

    Raises:
        ImageFailure: stage `decode`, with the reason.
    """
    from PIL import UnidentifiedImageError

    if not data:
        raise ImageFailure("decode", "the file is empty (0 bytes)")
    try:
        with open_image(data) as image:
            width, height = image.size
            if width * height > pixel_limit:
                raise ImageFailure(
                    "decode",
                    f"{width} x {height} = {width * height} pixels, more than the limit of {pixel_limit} "
                    "(a decompression bomb?); raise --pixel_limit if it is real",
                )
            pixels = decode_strictly(data, image.size) if image.format in ("JPEG", "MPO") else None
            if pixels is None or image.mode not in ("L", "RGB"):
                pixels = to_bgr(image)
            return np.ascontiguousarray(upright(pixels, orientation_of(image))) if exif else pixels
    except ImageFailure:
        raise
    except UnidentifiedImageError as error:
        raise ImageFailure("decode", f"not an image of a known format; it begins with {data[:8]!r}") from error
    except Exception as error:  # PIL raises OSError, SyntaxError, ValueError, struct.error, ...
        raise ImageFailure("decode", f"damaged image: {error}") from error


def working_bytes(data: bytes) -> int:
    """Return the memory that decoding and preparing an image takes, by its header; 0 if it has no readable one."""
    try:
        with open_image(data) as image:
            width, height = image.size
            return width * height * (_WEBP_WORKING_BYTES if image.format == "WEBP" else _WORKING_BYTES)
    except Exception:  # as in decode_image, which gives the reason
        return 0


def upright(pixels: NDArray[np.uint8], orientation: object) -> NDArray[np.uint8]:
    """Rotate and mirror pixels (H, W, 3) by an EXIF orientation, as `PIL.ImageOps.exif_transpose` does.

    Any orientation but 2 to 8 changes nothing. The result is a view, (H, W, 3) or (W, H, 3).
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def open_image(data: bytes) -> Any:
    """Open an image file of a photo format by its header; raises what PIL raises. Check its size before decoding."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # pixel_limit is checked instead; PIL would only warn
    # PIL's own blocks of 16 MB come from the allocator's arena of each thread, which keeps them; larger ones do not.
    Image.core.set_block_size(64 << 20)
    return Image.open(io.BytesIO(data), formats=_FORMATS)


def orientation_of(image: Any) -> object:
    """Return an open image's EXIF orientation, None if it has none that can be read."""
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # damaged EXIF raises SyntaxError, ValueError, struct.error, ...
        return None


def to_bgr(image: Any) -> NDArray[np.uint8]:
    """Decode an open image by PIL: uint8 (H, W, 3), BGR; raises ImageFailure, or what PIL raises."""
    image.load()
    if image.mode == "I" and image.format == "TIFF":  # the value of white is unknown
        raise ImageFailure("decode", "32-bit or signed samples (mode I); convert it to unsigned 8 or 16 bit")
    if image.mode.startswith("I"):  # 16-bit grayscale, which PIL would clip instead of scaling
        gray = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise ImageFailure("decode", "floating-point samples (mode F); convert it to 8 bit")
    image.info.pop("transparency", None)  # dropped; convert() would warn
    rgb = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # convert() would copy RGB
    return np.ascontiguousarray(rgb[:, :, ::-1])
