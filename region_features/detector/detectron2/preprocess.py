"""Preprocessing for a detectron2 network: resize the short edge by Pillow; the network itself subtracts the mean.

Equal to detectron2's ResizeShortestEdge, without importing it and torch into reader threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from region_features.detector.errors import ConfigError
from region_features.detector.preprocess import check_pixels
from region_features.records.detector_config import DetectorConfig
from region_features.records.prepared_image import PreparedImage

_FORMATS = ("BGR", "RGB")


@dataclass(frozen=True)
class InputSettings:
    """The image size and channel order of a config.

    Attributes:
        short: pixels of the short edge; 0 leaves images as they are.
        long: largest length of the long edge in pixels.
        channels: `BGR` or `RGB`.
    """

    short: int
    long: int
    channels: str


def input_settings(config: DetectorConfig) -> InputSettings:
    """Return the settings of a config, detectron2's defaults for those that it does not set.

    Raises:
        ConfigError: a setting cannot be used; names the file and the value.
    """
    sides = []
    for name, default, least in (("INPUT.MIN_SIZE_TEST", 800, 0), ("INPUT.MAX_SIZE_TEST", 1333, 1)):
        side = config.value(name, default)
        if type(side) is not int or side < least:
            raise ConfigError(f"{config.source}, {name}: expected a whole number of at least {least}, got {side!r:.80}")
        sides.append(side)
    channels = config.value("INPUT.FORMAT", "BGR")
    if channels not in _FORMATS:
        raise ConfigError(f"{config.source}, INPUT.FORMAT: expected {' or '.join(_FORMATS)}, got {channels!r:.80}")
    return InputSettings(sides[0], sides[1], channels)


def resized_size(height: int, width: int, settings: InputSettings) -> tuple[int, int]:
    """Return height and width after resizing, rounded half up as in detectron2; 0 for the short side of a thread."""
    if settings.short == 0:
        return height, width
    scale = settings.short * 1.0 / min(height, width)
    sides: tuple[float, float] = (settings.short, scale * width) if height < width else (scale * height, settings.short)
    if max(sides) > settings.long:
        scale = settings.long * 1.0 / max(sides)
        sides = (sides[0] * scale, sides[1] * scale)
    return int(sides[0] + 0.5), int(sides[1] + 0.5)


def prepare(img_id: str, image: NDArray[np.uint8], settings: InputSettings) -> PreparedImage:
    """Resize bilinearly in 8 bits and order the channels.

    Args:
        img_id: file stem, carried along.
        image: (H, W, 3) uint8, BGR.
        settings: the config's.

    Returns:
        The prepared image, pixels float32 (h, w, 3) from 0 to 255. h or w is 0 if the image is so thin that its short
        side rounds to nothing: the detector reports it.

    Raises:
        ValueError: `image` is not (H, W, 3) uint8 or is empty.
    """
    from PIL import Image

    check_pixels(img_id, image)
    height, width = image.shape[:2]
    size = resized_size(height, width, settings)
    ordered = image[:, :, ::-1] if settings.channels == "RGB" else image
    if size == (height, width):
        pixels = ordered
    elif 0 in size:
        pixels = np.empty((*size, 3), np.uint8)
    else:
        original = Image.fromarray(np.ascontiguousarray(ordered))
        pixels = np.asarray(original.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return PreparedImage(img_id, height, width, min(size) / min(height, width), pixels.astype(np.float32))
