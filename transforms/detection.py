"""The ModelHandler through which Beam's RunInference drives a detector, and what the program checks of it first."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from region_features.detector.device import choose_device
from region_features.detector.errors import DetectionError, DeviceLostError
from region_features.download.http import shown
from region_features.records.detector_config import DetectorConfig
from region_features.records.failure import ImageFailure
from region_features.records.item import TakenRecord
from region_features.records.prepared_image import Prepare, PreparedImage
from region_features.records.region_record import RegionRecord
from region_features.records.settings import FLOAT32, SelectionRule
from transforms import files
from transforms.beam_private import KeyedModelHandler, ModelHandler, RunInference
from transforms.input_files import PinnedFile
from transforms.metrics import IMAGES_DETECTED, NAMESPACE, count_here
from transforms.tasks import at_work
from transforms.weights_cache import local_copy, pinned_copy

# What the network does not take passes through it.
Example = PreparedImage | TakenRecord | ImageFailure
Prediction = RegionRecord | TakenRecord | ImageFailure
# A GPU waits between batches, so they are larger there; a CPU gains nothing by it.
_CPU_BATCH, _CUDA_BATCH = 8, 32


def prepare(img_id: str, image: NDArray[np.uint8]) -> PreparedImage:
    """Prepare an image for the bottom-up-attention network; imports OpenCV on the worker."""
    from region_features.detector.preprocess import prepare as detector_prepare

    return detector_prepare(img_id, image)


def prepare_pinned(img_id: str, image: NDArray[np.uint8], preparation: Prepare) -> PreparedImage:
    """Prepare an image by `preparation`, its pixels in memory that a GPU copies from by itself."""
    from region_features.detector.pinned import pinned

    return pinned(preparation(img_id, image))


def preprocessing(config: DetectorConfig | None, device: str = "cpu") -> Prepare:
    """Return the preprocessing of the bottom-up-attention network, or that of a config's network.

    Args:
        config: of a detectron2 network; None for the bottom-up-attention network.
        device: `auto`, `cpu` or `cuda`, where the network runs.

    Raises:
        ValueError: the config's input settings cannot be used.
    """
    preparation: Prepare = prepare
    if config:
        from region_features.detector.detectron2.preprocess import input_settings
        from region_features.detector.detectron2.preprocess import prepare as detectron2_prepare

        preparation = functools.partial(detectron2_prepare, settings=input_settings(config))
    return preparation if device == "cpu" else functools.partial(prepare_pinned, preparation=preparation)


def read_detector_config(uri: str) -> DetectorConfig:
    """Read a detectron2 config with its bases merged in.

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
        config: of the detectron2 network that they are for; None for the bottom-up-attention network. Whether config
            and weights fit each other is checked only where detectron2 is installed.

    Raises:
        ValueError: it cannot be used; one line names the file and the layer.
        OSError: it cannot be read or fetched.
    """
    from region_features.detector.weights.weights_file import read_weights

    name = shown(weights)
    with local_copy(weights) as path:
        sha256 = files.sha256_of(path)
        if config:
            _check_checkpoint(path, name, config)
            return WeightsFacts(sha256, "detectron2-checkpoint", attributes=False)
        content = read_weights(path, name)
        return WeightsFacts(sha256, content.format, content.architecture.has_attribute_head)


def _check_checkpoint(path: str, name: str, config: DetectorConfig) -> None:
    from region_features.detector.weights.weights_file import read_checkpoint

    arrays = read_checkpoint(path, name)
    if importlib.util.find_spec("detectron2"):
        from region_features.detector.detectron2.detector import check_checkpoint

        check_checkpoint(config, arrays, name)


def detect_each(
    detect: Callable[[Sequence[PreparedImage]], Sequence[Any]], batch: Sequence[Example], one_by_one: bool = False
) -> list[Any]:
    """Detect a batch so that what fails in one image does not reach the others; count each image once it is done.

    Args:
        detect: the detector; gives a record or an exception an image, or raises for the whole batch.
        batch: images, and what passes through: taken records, failures of earlier stages.
        one_by_one: call the detector for each image, which then counts at once: it may take seconds.

    Returns:
        A RegionRecord or an ImageFailure an image, in order, and what passed through.

    Raises:
        DeviceLostError: the GPU answers no more, which is no image's fault.
    """
    if one_by_one:
        return [detect_each(detect, [example])[0] for example in batch]
    results = _detect_batch(detect, batch)
    count_here(IMAGES_DETECTED, len(results))
    return results


def _detect_batch(
    detect: Callable[[Sequence[PreparedImage]], Sequence[Any]], batch: Sequence[Example]
) -> list[Prediction]:
    images = [example for example in batch if isinstance(example, PreparedImage)]
    try:
        results = list(detect(images)) if images else []
        if len(results) != len(images):
            raise ValueError(f"expected {len(images)} results of the detector, got {len(results)}")
    except DeviceLostError:
        raise
    except Exception as error:  # a batch that fails as a whole is retried one by one
        results = [error] if len(images) == 1 else [_detect_batch(detect, [image])[0] for image in images]
    pending = iter(results)
    return [_as_failure(next(pending)) if isinstance(example, PreparedImage) else example for example in batch]


def _as_failure(result: Any) -> Prediction:
    if not isinstance(result, Exception) or isinstance(result, ImageFailure):
        return result
    known = isinstance(result, DetectionError)
    return ImageFailure("detect", str(result) if known else f"{type(result).__name__}: {result}")


class RegionModelHandler(ModelHandler[Example, Prediction, Any]):
    """Load the network and run it on batches of prepared images.

    Args:
        weights: the weights file; each machine fetches it for itself, and refuses one that was replaced.
        device: `auto`, `cpu` or `cuda`; `cuda` on a machine without a GPU is an error.
        selection: how many regions an image keeps.
        config: of the detectron2 network that detects; None for the bottom-up-attention network.
        precision: of PRECISIONS; one that the device does not have is an error.
        model_copies: how many networks all processes of a machine share, which then hand their images to the process
            that holds them; None for one in each process, which costs no copying.
    """

    def __init__(
        self,
        weights: PinnedFile,
        device: str,
        selection: SelectionRule,
        config: DetectorConfig | None = None,
        precision: str = FLOAT32,
        model_copies: int | None = None,
    ) -> None:
        super().__init__(model_copies=model_copies)
        self._weights = weights
        self._device = device
        self._selection = selection
        self._config = config
        self._precision = precision

    def load_model(self) -> Any:
        """Load the detector onto its device."""
        from region_features.detector import Detector, Detectron2Detector

        with at_work("loading the network"), pinned_copy(self._weights) as path:
            if self._config:
                return Detectron2Detector.load(self._config, path, self._device, self._selection, self._precision)
            return Detector.load(path, self._device, self._selection, self._precision)

    def run_inference(
        self, batch: Sequence[Example], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Prediction]:
        """Return a record or a failure an example, in order."""
        # A list, since a generator would escape Beam's error handling. On a CPU the network takes no two images
        # together.
        return detect_each(model.detect, batch, one_by_one=choose_device(self._device) == "cpu")

    def get_num_bytes(self, batch: Sequence[Example]) -> int:
        """Count the bytes of the batch's pixels; Beam's default would pickle them to know."""
        return sum(example.pixels.nbytes for example in batch if isinstance(example, PreparedImage))

    def get_metrics_namespace(self) -> str:
        """Return our own namespace, so that Beam's inference metrics stand beside ours."""
        return NAMESPACE


def images_a_batch(requested: int | None, device: str) -> int:
    """Decide how many images go to the network of this machine together.

    Args:
        requested: what the user asked for, if anything.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ValueError: a GPU was asked for and there is none.
    """
    if requested is not None:
        return requested
    return _CUDA_BATCH if choose_device(device) == "cuda" else _CPU_BATCH


def check_device(device: str, precision: str) -> None:
    """Refuse what this machine cannot run; imports torch.

    Raises:
        ValueError: this machine has no such device, or it lacks the precision; one line.
    """
    import torch

    from region_features.detector.precision import check_precision

    check_precision(precision, torch.device(choose_device(device)))


def detect_regions(handler: ModelHandler) -> beam.PTransform:
    """Run a model handler of any kind: batches of (ImageItem, Example) -> (ImageItem, Prediction)."""
    return RunInference(KeyedModelHandler(handler).with_no_batching())
