"""Preprocessing for the bottom-up-attention network: subtract the means, then resize.

Source: `_get_blobs` of the original's `fast_rcnn/test.py`. Imports no torch, so that reader threads and processes stay
light.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from region_features.records.prepared_image import PreparedImage

PIXEL_MEANS = (102.9801, 115.9465, 122.7717)  # B, G, R
SHORT_SIDE = 600
LONG_SIDE = 1000

# 8-bit pixels have 256 values: the original's double subtraction, rounded to float32, is a table.
_CENTRED = (np.arange(256.0)[None, :, None] - np.array(PIXEL_MEANS)).astype(np.float32)

# The callers are threads already.
cv2.setNumThreads(1)


def resize_scale(height: int, width: int) -> float:
    """Return the factor that makes the short side 600 pixels, or the long side 1000 if it would exceed 1000."""
    short, long = min(height, width), max(height, width)
    scale = SHORT_SIDE / short
    if np.round(scale * long) > LONG_SIDE:
        scale = LONG_SIDE / long
    return float(scale)


def check_pixels(img_id: str, image: NDArray[np.uint8]) -> None:
    """Refuse an array that is no decoded image.

    Raises:
        ValueError: `image` is not (H, W, 3) uint8 or is empty.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(
            f"image {img_id}: expected uint8 pixels of shape (H, W, 3), got {image.dtype} of shape {image.shape}; "
            "convert it to 8-bit BGR first"
        )


def prepare(img_id: str, image: NDArray[np.uint8]) -> PreparedImage:
    """Subtract the means in float32, then resize bilinearly, bit for bit as the original's OpenCV.

    Args:
        img_id: file stem, carried along.
        image: (H, W, 3) uint8, BGR.

    Returns:
        The prepared image, pixels float32 (h, w, 3). h or w is 0 if the image is so thin that its short side rounds to
        nothing: the detector reports it.

    Raises:
        ValueError: `image` is not (H, W, 3) uint8 or is empty.
    """
    check_pixels(img_id, image)
    height, width = image.shape[:2]
    scale = resize_scale(height, width)
    if round(min(height, width) * scale) == 0:
        size = (0, LONG_SIDE) if height < width else (LONG_SIDE, 0)
        return PreparedImage(img_id, height, width, scale, np.empty((*size, 3), np.float32))
    # OpenCV keeps this switch per thread. Intel's IPP resizes differently from the original by up to 6.6e-3.
    cv2.ipp.setUseIPP(False)
    centred = cv2.LUT(np.ascontiguousarray(image), _CENTRED)
    # fx and fy, not a size: the samples then lie at 1/scale and not at the ratio of the rounded sizes.
    pixels = cv2.resize(centred, None, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    return PreparedImage(img_id, height, width, scale, np.asarray(pixels, dtype=np.float32))
