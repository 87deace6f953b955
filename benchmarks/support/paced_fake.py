"""A detector without a network: records of full size that depend on the pixels, at the pace of a real network."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import RegionRecord
from tests.samples.fakes import fake_record
from transforms.beam_private import ModelHandler
from transforms.detection import detect_each

# The img_ids that came to the network of this process.
SEEN: list[str] = []
_BOXES, _FEATURES, _CLASSES, _ATTRIBUTES = 36, 2048, 1601, 401


class PacedModel:
    """Makes records of full size from the pixels, so many a second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def detect(self, images: Sequence[PreparedImage]) -> list[RegionRecord]:
        """Return a record an image, and remember which came."""
        done = time.perf_counter() + len(images) / self._rate
        SEEN.extend(image.img_id for image in images)
        records = [fake_record(image, _BOXES, _FEATURES, _CLASSES, _ATTRIBUTES) for image in images]
        time.sleep(max(0.0, done - time.perf_counter()))
        return records


class PacedHandler(ModelHandler):
    """Run a PacedModel in Beam's inference."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self._rate = rate

    def load_model(self) -> PacedModel:
        """Make the fake."""
        return PacedModel(self._rate)

    def run_inference(self, batch: Sequence[Any], model: Any, inference_args: dict[str, Any] | None = None) -> Iterable:
        """Return a record an example."""
        return detect_each(model.detect, batch)

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        """Return 0: counting would cost time."""
        return 0
