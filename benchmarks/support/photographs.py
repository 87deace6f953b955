"""Photographs to measure on: given files, or scikit-image's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

Photograph = NDArray[np.uint8]  # (H, W, 3), BGR


def photographs(paths: Sequence[str]) -> list[Photograph]:
    """Read the given images, or scikit-image's astronaut, coffee and cat if there are none.

    Raises:
        ValueError: a file cannot be read as an image.
    """
    if not paths:
        return [np.ascontiguousarray(photo()[:, :, ::-1]) for photo in (data.astronaut, data.coffee, data.chelsea)]
    images = []
    for path in paths:
        image = cv2.imread(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None:
            raise ValueError(f"{path}: expected an image, got a file that OpenCV cannot read")
        images.append(image.astype(np.uint8, copy=False))
    return images


def write_jpegs(folder: Path, count: int, photos: Sequence[Photograph]) -> None:
    """Write JPEGs of COCO's usual size, 640 x 480 and every third 480 x 640, no two alike."""
    folder.mkdir(parents=True)
    for number in range(count):
        size = (480, 640) if number % 3 == 2 else (640, 480)
        photo = cv2.resize(photos[number % len(photos)], size, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"photo_{number:06d}.jpg"), np.roll(photo, 7 * number, axis=1))
