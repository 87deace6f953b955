"""A detector without a network; its records have the real network's size: 36 boxes, 0.6 MB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import RegionRecord
from transforms.beam_private import ModelHandler
from transforms.detection import detect_each

_BOXES, _FEATURES, _CLASSES, _ATTRIBUTES = 36, 2048, 1601, 401


def keep_pixels(img_id: str, image: NDArray[np.uint8]) -> PreparedImage:
    """Return the pixels unchanged, in float32 as for the network."""
    return PreparedImage(img_id, image.shape[0], image.shape[1], 1.0, image.astype(np.float32))


def random_record(img_id: str, height: int, width: int, rng: np.random.Generator) -> RegionRecord:
    """Make a record of full size from the generator's next numbers."""
    cls_prob = rng.random((_BOXES, _CLASSES), np.float32)
    attrs = rng.random((_BOXES, _ATTRIBUTES), np.float32)
    corners = np.sort(rng.random((_BOXES, 2, 2), np.float32), axis=1) * np.array([width - 1, height - 1], np.float32)
    return RegionRecord(
        img_id=img_id,
        img_h=height,
        img_w=width,
        objects_id=cls_prob[:, 1:].argmax(1),
        objects_conf=cls_prob[:, 1:].max(1),
        attrs_id=attrs[:, 1:].argmax(1),
        attrs_conf=attrs[:, 1:].max(1),
        boxes=corners.reshape(_BOXES, 4),
        features=rng.random((_BOXES, _FEATURES), np.float32),
        cls_prob=cls_prob,
        attrs=attrs,
    )


class RandomModel:
    """Every record has other numbers."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def detect(self, images: Sequence[PreparedImage]) -> list[RegionRecord]:
        """Return a record an image."""
        return [random_record(image.img_id, image.height, image.width, self._rng) for image in images]


class CopyingModel:
    """Every record has the same numbers, which cost no time; its boxes are inside any image of 2 x 2 or more."""

    def __init__(self) -> None:
        self._record = random_record("", 2, 2, np.random.default_rng(0))

    def detect(self, images: Sequence[PreparedImage]) -> list[RegionRecord]:
        """Return a record an image."""
        return [replace(self._record, img_id=image.img_id, img_h=image.height, img_w=image.width) for image in images]


class FullSizeHandler(ModelHandler):
    """A ModelHandler that costs next to nothing."""

    def __init__(self, model: type[RandomModel | CopyingModel] = RandomModel) -> None:
        super().__init__()
        self._model = model

    def load_model(self) -> RandomModel | CopyingModel:
        """Make the fake."""
        return self._model()

    def run_inference(self, batch: Sequence[Any], model: Any, inference_args: dict[str, Any] | None = None) -> Iterable:
        """Return a record an example."""
        return detect_each(model.detect, batch)

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        """Return 0: counting would cost time."""
        return 0
