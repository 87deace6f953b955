"""Small JPEGs of image files, for pages."""

from __future__ import annotations

import io

import numpy as np

from region_features.images.decode import open_image, orientation_of, to_bgr, upright
from region_features.records.failure import ImageFailure

_QUALITIES = (80, 60, 40, 20, 5)
# More bytes a pixel of the square are noise: quality goes down until they are fewer.
_BYTES_A_PIXEL = 1 / 3


def make_thumbnail(data: bytes, side: int, pixel_limit: int, exif: bool = False) -> bytes:
    """Return a JPEG of an image file, at most `side` pixels wide and high, and of a third of that square in bytes.

    A large JPEG is decoded at a smaller size.

    Args:
        data: content of the file.
        side: of the square that it must fit in, in pixels; smaller images keep their size.
        pixel_limit: largest allowed width x height, checked before pixels are decoded.
        exif: rotate and mirror the image by its EXIF orientation.

    Raises:
        ImageFailure: stage `decode`, with the reason.
    """
    from PIL import Image

    try:
        with open_image(data) as image:
            if image.width * image.height > pixel_limit:
                raise ImageFailure("decode", f"more than {pixel_limit} pixels")
            image.draft("RGB", (side, side))
            pixels = upright(to_bgr(image), orientation_of(image)) if exif else to_bgr(image)
        small = Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1]))
        small.thumbnail((side, side))
        for quality in _QUALITIES:
            encoded = io.BytesIO()
            small.save(encoded, "JPEG", quality=quality, optimize=True)
            if encoded.tell() <= side * side * _BYTES_A_PIXEL:
                break
        return encoded.getvalue()
    except ImageFailure:
        raise
    except Exception as error:  # PIL raises OSError, SyntaxError, ValueError, struct.error, ...
        raise ImageFailure("decode", "it is no image that can be read") from error
