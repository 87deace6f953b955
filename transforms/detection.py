"""The ModelHandler through which Beam's RunInference drives the detector."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from region_features.records.detector_config import DetectorConfig
from region_features.records.failure import ImageFailure
from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import RegionRecord
from region_features.records.settings import FLOAT32, SelectionRule
from transforms import files
from transforms.inference import KeyedModelHandler, ModelHandler, RunInference
from transforms.metrics import NAMESPACE
from transforms.weights_cache import local_copy

Example = PreparedImage | ImageFailure
Prediction = RegionRecord | ImageFailure
# A GPU waits between batches, so they are larger there; a CPU gains nothing by it.
_CPU_BATCH, _CUDA_BATCH = 8, 32
Prepare = Callable[[str, NDArray[np.uint8]], PreparedImage]


def prepare(img_id: str, image: NDArray[np.uint8]) -> PreparedImage:
    """The network's preprocessing, see `region_features.detector.preprocess.prepare`."""
    from region_features.detector.preprocess import prepare as detector_prepare

    return detector_prepare(img_id, image)


def prepare_pinned(img_id: str, image: NDArray[np.uint8], preparation: Prepare) -> PreparedImage:
    """What `preparation` gives, where a GPU copies from by itself, see `region_features.detector.pinned.pinned`."""
    from region_features.detector.pinned import pinned

    return pinned(preparation(img_id, image))


def preprocessing(config: DetectorConfig | None, device: str = "cpu") -> Prepare:
    """The preprocessing of the bottom-up-attention network, or that of a config's network.

    Args:
        config: of a detectron2 network; None for the bottom-up-attention network.
        device: `auto`, `cpu` or `cuda`, where the network runs.

    Raises:
        ValueError: the config's input settings are none that can be used.
    """
    preparation: Prepare = prepare
    if config:
        from region_features.detector.detectron2.preprocess import input_settings
        from region_features.detector.detectron2.preprocess import prepare as generic_prepare

        preparation = functools.partial(generic_prepare, settings=input_settings(config))
    return preparation if device == "cpu" else functools.partial(prepare_pinned, preparation=preparation)


def read_detector_config(uri: str) -> DetectorConfig:
    """A detectron2 config with its bases merged in, see `region_features.detector.detectron2.config_file.read_config`.

    Raises:
        ValueError: it cannot be used; one line names the file.
    """
    from region_features.detector.detectron2.config_file import read_config

    config = read_config(uri, files.read_bytes)
    preprocessing(config)
    return config


@dataclass(frozen=True)
class WeightsFacts:
    """What is known of a weights file before the run.

    Attributes:
        sha256: of its content, hex.
        format: see `region_features.detector.weights.state.Weights`; `detectron2-checkpoint` for a config's network.
        attributes: whether it has an attribute head; without one attributes are zeros.
    """

    sha256: str
    format: str
    attributes: bool


def check_weights(weights: str, config: DetectorConfig | None = None) -> WeightsFacts:
    """Read a weights file as the workers will, without torch.

    Args:
        weights: path, URI or address.
        config: of the detectron2 network that they are for; None for the bottom-up-attention network. Whether the two
            go together is seen only where detectron2 is installed.

    Raises:
        ValueError: it cannot be used; one line names the file and the layer.
        OSError: it cannot be read or fetched.
    """
    from region_features.detector.weights.weights_file import read_weights

    with local_copy(weights) as path:
        if config:
            return WeightsFacts(_check_checkpoint(path, weights, config), "detectron2-checkpoint", False)
        found = read_weights(path, weights)
        return WeightsFacts(files.sha256_of(path), found.format, found.architecture.has_attribute_head)


def _check_checkpoint(path: str, weights: str, config: DetectorConfig) -> str:
    """The checkpoint's SHA-256, once it is known to be one of the config's network."""
    from region_features.detector.weights.checkpoint_file import read_checkpoint

    arrays = read_checkpoint(path, weights)
    if importlib.util.find_spec("detectron2"):
        from region_features.detector.detectron2.detector import check_checkpoint

        check_checkpoint(config, arrays, weights)
    return files.sha256_of(path)


def detect_each(detect: Callable[[Sequence[PreparedImage]], Sequence[Any]], batch: Sequence[Example]) -> list[Any]:
    """Detect a batch so that one image's trouble stays its own.

    Args:
        detect: the detector; gives a record or an exception an image, or raises for the whole batch.
        batch: images, and failures of earlier stages, which pass through.

    Returns:
        A RegionRecord or an ImageFailure an element, in order.

    Raises:
        DeviceLostError: the GPU answers no more, which is no image's fault.
    """
    from region_features.detector.errors import DeviceLostError

    images = [example for example in batch if isinstance(example, PreparedImage)]
    try:
        found = list(detect(images)) if images else []
        if len(found) != len(images):
            raise ValueError(f"expected {len(images)} results of the detector, got {len(found)}")
    except DeviceLostError:
        raise
    except Exception as error:  # a batch that fails as a whole is retried one by one
        found = [error] if len(images) == 1 else [detect_each(detect, [image])[0] for image in images]
    results = iter(found)
    return [_as_failure(next(results)) if isinstance(example, PreparedImage) else example for example in batch]


def _as_failure(result: Any) -> Prediction:
    if not isinstance(result, Exception) or isinstance(result, ImageFailure):
        return result
    from region_features.detector.errors import DetectionError

    known = isinstance(result, DetectionError)
    return ImageFailure("detect", str(result) if known else f"{type(result).__name__}: {result}")


class RegionModelHandler(ModelHandler[Example, Prediction, Any]):
    """Loads the network and runs it on batches of prepared images.

    Args:
        weights: path or URI of the weights file; each machine fetches it for itself.
        device: `auto`, `cpu` or `cuda`; `cuda` on a machine without a GPU is an error.
        boxes: how many boxes an image gets.
        config: of the detectron2 network that detects; None for the bottom-up-attention network.
        precision: of PRECISIONS; one that the device does not have is an error.
        model_copies: how many networks all processes of a machine share, which then hand their images to the process
            that holds them; None for one in each process, which costs no copying.
    """

    def __init__(
        self,
        weights: str,
        device: str,
        boxes: SelectionRule,
        config: DetectorConfig | None = None,
        precision: str = FLOAT32,
        model_copies: int | None = None,
    ) -> None:
        super().__init__(model_copies=model_copies)
        self._weights = weights
        self._device = device
        self._boxes = boxes
        self._config = config
        self._precision = precision

    def load_model(self) -> Any:
        """The detector on its device."""
        from region_features.detector import Detector, Detectron2Detector

        device = choose_device(self._device)
        with local_copy(self._weights) as path:
            if self._config:
                return Detectron2Detector.load(self._config, path, device, self._boxes, self._precision)
            return Detector.load(path, device, self._boxes, self._precision)

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


def images_a_batch(wanted: int | None, device: str) -> int:
    """How many images go to the network of this machine together.

    Args:
        wanted: what the user asked for, if anything.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ValueError: a GPU was asked for and there is none.
    """
    if wanted is not None:
        return wanted
    return _CUDA_BATCH if device != "cpu" and choose_device(device) == "cuda" else _CPU_BATCH


def check_device(device: str, precision: str) -> None:
    """Refuse what this machine cannot run.

    Args:
        device: `auto`, `cpu` or `cuda`.
        precision: of PRECISIONS.

    Raises:
        ValueError: there is no such device, or it does not have the precision; one line.
    """
    import torch

    from region_features.detector.precision import check_precision

    check_precision(precision, torch.device(choose_device(device)))


def detect_regions(handler: ModelHandler) -> beam.PTransform:
    """Batches of (ImageItem, Example) -> (ImageItem, Prediction), a model handler of any kind between them."""
    return RunInference(KeyedModelHandler(handler).with_no_batching())
