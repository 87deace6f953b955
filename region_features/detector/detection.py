"""Detection: the regions of one image file, with the names of their classes. K: regions; D: feature width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from region_features.detector.errors import DetectionError
from region_features.detector.local_images import read_pixels
from region_features.names import ClassNames
from region_features.records.region_record import RegionRecord

if TYPE_CHECKING:
    from PIL import Image

_SHOWN = 3


@dataclass(frozen=True, eq=False, repr=False)
class Detection:
    """The regions of one image file.

    Attributes:
        path: the image.
        record: all thirteen fields, as the pipeline writes them.
        names: of the network's classes; None if they are not Visual Genome's.
        exif: whether the image was turned by its EXIF orientation.
    """

    path: str
    record: RegionRecord
    names: ClassNames | None
    exif: bool = False

    @property
    def boxes(self) -> NDArray[np.float32]:
        """Boxes, (K, 4): x1, y1, x2, y2 in pixels of the image."""
        return self.record.boxes

    @property
    def features(self) -> NDArray[np.float32]:
        """Features of the boxes, (K, D)."""
        return self.record.features

    @property
    def phrases(self) -> list[str]:
        """A phrase for each box, `standing man`; empty if there are no names."""
        return [self.names.phrase(self.record, row) for row in range(len(self))] if self.names else []

    def draw(self, top: int | None = None, min_confidence: float = 0.0) -> Image.Image:
        """Draw the regions on the image, which is read again.

        Args:
            top: at most so many regions, those with the most confident objects; None for all.
            min_confidence: least confidence of a region's object.

        Raises:
            DetectionError: the file is no longer the image that the regions were found in.
            OSError: it cannot be read.
        """
        from region_features.drawing.regions import draw_regions

        pixels = read_pixels(self.path, self.exif)
        try:
            return draw_regions(pixels, self.record, self.names, top, min_confidence)
        except ValueError as error:
            raise DetectionError(f"{self.path}: {error}") from error

    def __len__(self) -> int:
        """Return K, the number of regions."""
        return self.record.num_boxes

    def __repr__(self) -> str:
        best = np.argsort(-self.record.objects_conf, kind="stable")[:_SHOWN]
        shown = "".join(f"; {self.names.describe(self.record, row)}" for row in best) if self.names else ""
        return f"<Detection {self.path}: {len(self)} regions{shown}{'; ...' if shown and len(self) > _SHOWN else ''}>"
