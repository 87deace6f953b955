"""Image files of the local disk, read and prepared a batch ahead of the network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from region_features.detector.errors import DetectionError
from region_features.detector.preprocess import prepare
from region_features.images.decode import decode_image
from region_features.records.failure import ImageFailure
from region_features.records.prepared_image import PreparedImage
from region_features.records.settings import PIXEL_LIMIT

_THREADS = 4
BATCH = 8


def local_path(path: str | os.PathLike[str]) -> str:
    """Return the path of a local file as text.

    Raises:
        TypeError: it is no path.
        ValueError: it is an address.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"expected the path of an image or a list of paths, got {type(path).__name__}; for pixels, use "
            "`region_features.detector.preprocess.prepare` and `Detector.detect`"
        )
    text = os.fspath(path)
    if "://" in text:
        raise ValueError(
            f"{text}: expected the path of a local file; the detector fetches nothing, since an address may answer "
            "with another image tomorrow; download the file first, or give gs:// paths to the pipeline"
        )
    return text


def read_pixels(path: str, exif: bool) -> NDArray[np.uint8]:
    """Read and decode an image file: uint8 (H, W, 3), BGR.

    Raises:
        DetectionError: it is no image that can be decoded; names the file.
        OSError: it cannot be read.
    """
    try:
        return decode_image(Path(path).read_bytes(), PIXEL_LIMIT, exif)
    except ImageFailure as failure:
        raise DetectionError(f"{path}: {failure.reason}") from failure


def prepared_batches(
    paths: Sequence[str], exif: bool
) -> Iterator[list[tuple[str, PreparedImage | DetectionError | OSError]]]:
    """Yield (path, image or error) in batches, the next of which is read meanwhile."""

    def load(path: str) -> tuple[str, PreparedImage | DetectionError | OSError]:
        try:
            return path, prepare(Path(path).stem, read_pixels(path, exif))
        except (DetectionError, OSError) as error:
            return path, error

    with ThreadPoolExecutor(_THREADS) as pool:
        ahead = [pool.submit(load, path) for path in paths[:BATCH]]
        for start in range(0, len(paths), BATCH):
            current = ahead
            ahead = [pool.submit(load, path) for path in paths[start + BATCH : start + 2 * BATCH]]
            yield [future.result() for future in current]
