"""A detector that needs no network: records computed from the pixels, by plain numpy."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import RegionRecord
from transforms.beam_private import ModelHandler
from transforms.detection import detect_each


def fake_prepare(img_id: str, image: NDArray[np.uint8]) -> PreparedImage:
    """Prepare the image as it is."""
    return PreparedImage(img_id, image.shape[0], image.shape[1], 1.0, image.astype(np.float32))


def fake_record(
    image: PreparedImage, boxes: int = 3, width: int = 8, classes: int = 5, attributes: int = 4
) -> RegionRecord:
    """Make a record that depends on every pixel; an image whose first pixel is black has no region."""
    seed = int(image.pixels.sum()) % 2**32
    if not image.pixels[0, 0].any():
        raise ValueError("no proposal survives")
    rng = np.random.default_rng(seed)
    cls_prob = rng.random((boxes, classes), np.float32)
    attrs = rng.random((boxes, attributes), np.float32)
    corners = np.sort(rng.random((boxes, 2, 2), np.float32), axis=1) * [image.width - 1, image.height - 1]
    return RegionRecord(
        img_id=image.img_id,
        img_h=image.height,
        img_w=image.width,
        objects_id=cls_prob[:, 1:].argmax(1),
        objects_conf=cls_prob[:, 1:].max(1),
        attrs_id=attrs[:, 1:].argmax(1),
        attrs_conf=attrs[:, 1:].max(1),
        boxes=corners.reshape(boxes, 4).astype(np.float32),
        features=rng.random((boxes, width), np.float32),
        cls_prob=cls_prob,
        attrs=attrs,
    )


class FakeModel:
    """Stand in for the loaded network; take `seconds` a batch."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def detect(self, images: Sequence[PreparedImage]) -> list[Any]:
        """Return one record an image; raise for the whole batch if one image is bad."""
        time.sleep(self._seconds)
        return [fake_record(image) for image in images]


class FakeHandler(ModelHandler):
    """Run a FakeModel in Beam's inference."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self._seconds = seconds

    def load_model(self) -> FakeModel:
        """Return the fake."""
        return FakeModel(self._seconds)

    def run_inference(self, batch: Sequence[Any], model: Any, inference_args: dict[str, Any] | None = None) -> Iterable:
        """Return a record or a failure an example."""
        return detect_each(model.detect, batch)

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        """Return 0: the size of fake batches does not matter."""
        return 0
