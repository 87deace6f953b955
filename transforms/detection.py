"""The ModelHandler through which Beam's RunInference drives the detector."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from transforms import files
from transforms.failures import NAMESPACE
from transforms.inference import KeyedModelHandler, ModelHandler, RunInference
from transforms.records.image_failure import ImageFailure
from transforms.records.prepared_image import BoxSettings, PreparedImage
from transforms.records.region_record import RegionRecord

Example = PreparedImage | ImageFailure
Prediction = RegionRecord | ImageFailure


def prepare(img_id: str, image: NDArray[np.uint8]) -> PreparedImage:
    """The network's preprocessing, see `transforms.detector.preprocess.prepare`."""
    from transforms.detector.preprocess import prepare as detector_prepare

    return detector_prepare(img_id, image)


def check_weights(weights: str) -> None:
    """Read a weights file as the workers will, without torch.

    Raises:
        ValueError: it cannot be used; one line names the file and the layer.
    """
    from transforms.detector.caffe_weights import read_caffe_weights

    with _LocalCopy(weights) as path:
        read_caffe_weights(path)


class _LocalCopy:
    """A local path of a file that may lie on a remote file system, for as long as it is entered."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._temporary: str | None = None

    def __enter__(self) -> str:
        if not files.is_remote(self._uri):
            return self._uri
        descriptor, self._temporary = tempfile.mkstemp(suffix="-" + os.path.basename(self._uri))
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(files.read_bytes(self._uri))
        return self._temporary

    def __exit__(self, *_: object) -> None:
        if self._temporary:
            os.remove(self._temporary)


def detect_each(detect: Callable[[Sequence[PreparedImage]], Sequence[Any]], batch: Sequence[Example]) -> list[Any]:
    """Detect a batch so that one image's trouble stays its own.

    Args:
        detect: the detector; gives a record or an exception an image, or raises for the whole batch.
        batch: images, and failures of earlier stages, which pass through.

    Returns:
        A RegionRecord or an ImageFailure an element, in order.
    """
    images = [example for example in batch if isinstance(example, PreparedImage)]
    try:
        found = list(detect(images)) if images else []
        if len(found) != len(images):
            raise ValueError(f"expected {len(images)} results of the detector, got {len(found)}")
    except Exception as error:  # a batch that fails as a whole is retried one by one
        found = [error] if len(images) == 1 else [detect_each(detect, [image])[0] for image in images]
    results = iter(found)
    return [_as_failure(next(results)) if isinstance(example, PreparedImage) else example for example in batch]


def _as_failure(result: Any) -> Prediction:
    if not isinstance(result, Exception) or isinstance(result, ImageFailure):
        return result
    from transforms.detector.errors import DetectionError

    known = isinstance(result, DetectionError)
    return ImageFailure("detect", str(result) if known else f"{type(result).__name__}: {result}")


class RegionModelHandler(ModelHandler[Example, Prediction, Any]):
    """Loads the network and runs it on batches of prepared images.

    Args:
        weights: path or URI of the weights file.
        device: `auto`, `cpu` or `cuda`; `cuda` on a machine without a GPU is an error.
        boxes: how many boxes an image gets.
    """

    def __init__(self, weights: str, device: str, boxes: BoxSettings) -> None:
        super().__init__()
        self._weights = weights
        self._device = device
        self._boxes = boxes

    def load_model(self) -> Any:
        """The detector on its device."""
        from transforms.detector import Detector

        with _LocalCopy(self._weights) as path:
            return Detector.load(path, choose_device(self._device), self._boxes)

    def run_inference(
        self, batch: Sequence[Example], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Prediction]:
        """A record or a failure an example, in order."""
        # A list, since a generator would escape Beam's error handling.
        return detect_each(model.detect, batch)

    def get_num_bytes(self, batch: Sequence[Example]) -> int:
        """Bytes of the batch's pixels; Beam's default would pickle them to know."""
        return sum(example.pixels.nbytes for example in batch if isinstance(example, PreparedImage))

    def get_metrics_namespace(self) -> str:
        """Beam's inference metrics stand beside ours."""
        return NAMESPACE


def choose_device(device: str) -> str:
    """`cpu` or `cuda` for a --device of `auto`, `cpu` or `cuda`.

    Raises:
        ValueError: a GPU was asked for and there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ValueError("--device cuda: expected a GPU that torch can use, found none; use --device cpu or auto")
    return "cuda" if device != "cpu" and available else "cpu"


def detect_regions(handler: ModelHandler) -> beam.PTransform:
    """Batches of (ShardItem, Example) -> (ShardItem, Prediction), a model handler of any kind between them."""
    return RunInference(KeyedModelHandler(handler).with_no_batching())
