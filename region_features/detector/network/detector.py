"""The detector: prepared images in, region records or errors out.

Importing this module registers the network's parts with detectron2.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
import torch
from detectron2.modeling import build_model
from detectron2.structures import Instances
from numpy.typing import NDArray

from region_features.detector.detection import Detection
from region_features.detector.device import choose_device
from region_features.detector.device_loss import detect_device_loss
from region_features.detector.errors import DetectionError
from region_features.detector.local_images import local_path, prepared_batches
from region_features.detector.network.config import network_config
from region_features.detector.network.fused import fold_batch_norm, fuse_cpu_blocks, fuse_cuda_blocks
from region_features.detector.network.meta_arch import BottomUpAttentionRCNN
from region_features.detector.network.region_pool import POOLED_SIDE
from region_features.detector.precision import arithmetic, check_precision, dtype_of
from region_features.detector.torch_private import has_fused_convolutions
from region_features.detector.weights.state import Weights
from region_features.detector.weights.weights_file import read_weights
from region_features.names import visual_genome
from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import RegionRecord
from region_features.records.settings import DEFAULT_SELECTION, FLOAT32, SelectionRule

# These fill a large GPU; they are halved when a smaller one runs out of memory.
_CUDA_IMAGES, _CUDA_REGIONS = 8, 300
_FIELDS = ("pred_classes", "scores", "features", "class_probs", "attribute_probs")


def build_network(weights: Weights, selection: SelectionRule) -> BottomUpAttentionRCNN:
    """Build the network with its weights, on the CPU, batch normalisation not yet folded."""
    # On the meta device nothing is filled with random numbers only to be overwritten.
    with torch.device("meta"):
        network = build_model(network_config(weights.architecture, selection, device="meta"))
    state = {name: torch.from_numpy(np.array(array)) for name, array in weights.state.items()}
    network.load_state_dict(state, strict=True, assign=True)
    return network.requires_grad_(False).eval()


class Detector:
    """The network on one device; threads that share it take turns, a batch each.

    `Detector.load("W.caffemodel")("photo.jpg")` is a `Detection`: record, names, picture.
    """

    def __init__(self, network: BottomUpAttentionRCNN, device: torch.device, precision: str = FLOAT32) -> None:
        """Prepare a loaded network for speed: folded, channels last, convolutions fused.

        Args:
            network: on the CPU; changed in place.
            device: where it is to run.
            precision: one of PRECISIONS. 16 bits are for res5, where 92 % of the work is: proposals, and with them
                boxes, do not bear such rounding. The rest is then float32, or TF32 if the device has it.

        Raises:
            ValueError: the device does not have the precision.
        """
        check_precision(precision, device)
        fold_batch_norm(network)
        self._device, self._precision, self._lock = device, precision, threading.Lock()
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.roi_heads.use_dtype(dtype_of(precision))
        stages = [getattr(network.backbone, name) for name in network.backbone.stage_names]
        if device.type == "cuda":
            network.images_at_once, network.roi_heads.chunk = _CUDA_IMAGES, _CUDA_REGIONS
            for stage in (*stages, network.roi_heads.res5):
                fuse_cuda_blocks(stage)
        elif has_fused_convolutions():
            fuse_cpu_blocks(network.roi_heads.res5, (network.roi_heads.chunk, POOLED_SIDE, POOLED_SIDE))
            for stage in stages:
                fuse_cpu_blocks(stage)

    @classmethod
    def load(
        cls,
        weights: str,
        device: str = "auto",
        selection: SelectionRule = DEFAULT_SELECTION,
        precision: str = FLOAT32,
    ) -> Detector:
        """Read a weights file and build the network that it describes.

        Args:
            weights: local path of a file that `read_weights` knows.
            device: `auto`, `cpu` or `cuda`; `auto` is `cuda` if torch can use a GPU.
            selection: how many regions an image keeps.
            precision: one of PRECISIONS.

        Raises:
            WeightsError: the file cannot be used; says why.
            ValueError: there is no such device, or it does not have the precision.
            OSError: the file cannot be read.
        """
        chosen = torch.device(choose_device(device))
        return cls(build_network(read_weights(weights), selection), chosen, precision)

    @torch.inference_mode()
    def detect(self, images: Sequence[PreparedImage]) -> list[RegionRecord | DetectionError]:
        """Find the regions of each image.

        On a CPU an image's result does not depend on the others, bit for bit; on a GPU the last bits may.

        Args:
            images: from `region_features.detector.preprocess.prepare`, of any sizes.

        Returns:
            For each image, in order, its record or the reason why there is none.

        Raises:
            DeviceLostError: the GPU no longer computes.
        """
        with self._lock, arithmetic(self._precision, self._device), detect_device_loss(self._device):
            outputs = self.network([self._input(image) for image in images])
            regions = iter(_to_host([output["instances"] for output in outputs if "instances" in output]))
        return [
            output["error"] if "error" in output else _record(image, next(regions))
            for image, output in zip(images, outputs, strict=True)
        ]

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a text is a sequence of texts too
        self, images: str | os.PathLike[str], *, exif: bool = False
    ) -> Detection: ...

    @overload
    def __call__(
        self, images: Sequence[str | os.PathLike[str]], *, exif: bool = False
    ) -> list[Detection | DetectionError | OSError]: ...

    def __call__(
        self, images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, exif: bool = False
    ) -> Detection | list[Detection | DetectionError | OSError]:
        """Find the regions of image files: `detector("photo.jpg")`, `detector(["a.jpg", "b.jpg"])`.

        Args:
            images: the path of a local file, or a list of paths, which are read in batches.
            exif: turn images by their EXIF orientation.

        Returns:
            The regions of the one image; of a list, for each image its regions or the error that says why there are
            none.

        Raises:
            DetectionError: the one image cannot be decoded, or the network finds no region in it.
            OSError: the one image cannot be read.
            ValueError: a path is an address, which is not fetched.
            TypeError: something else than paths was given.
            DeviceLostError: the GPU no longer computes.
        """
        if isinstance(images, str | os.PathLike) or not isinstance(images, Iterable):
            (detection,) = self([images], exif=exif)
            if isinstance(detection, Exception):
                raise detection
            return detection
        detections: list[Detection | DetectionError | OSError] = []
        for batch in prepared_batches([local_path(path) for path in images], exif):
            results = iter(self.detect([image for _, image in batch if isinstance(image, PreparedImage)]))
            for path, image in batch:
                result = next(results) if isinstance(image, PreparedImage) else image
                detections.append(self._detection(path, result, exif))
        return detections

    def _detection(
        self, path: str, result: RegionRecord | DetectionError | OSError, exif: bool
    ) -> Detection | DetectionError | OSError:
        if isinstance(result, RegionRecord):
            return Detection(path, result, visual_genome() if visual_genome().fit(result) else None, exif)
        # The network's reason does not name the file; that of the file does.
        named = isinstance(result, OSError) or str(result).startswith(path)
        return result if named else DetectionError(f"{path}: {result}")

    def _input(self, image: PreparedImage) -> dict[str, object]:
        pixels, copied = torch.from_numpy(image.pixels), None
        if self._copies is not None:
            with torch.cuda.stream(self._copies):
                pixels = pixels.to(self._device, non_blocking=True)
                copied = self._copies.record_event()
            pixels.record_stream(torch.cuda.current_stream(self._device))
        size = {"scale": image.scale, "height": image.height, "width": image.width}
        return {"image": pixels.permute(2, 0, 1), "copied": copied, **size, "boxes": image.boxes}


def _to_host(instances: Sequence[Instances]) -> list[dict[str, NDArray[Any]]]:
    """Copy the numbers of all images to the host; from a GPU together, with one wait."""
    copied = []
    for image in instances:
        tensors = {name: image.get(name) for name in _FIELDS} | {"boxes": image.pred_boxes.tensor}
        copied.append({name: tensor.to("cpu", non_blocking=True) for name, tensor in tensors.items()})
    if any(image.features.is_cuda for image in instances):
        torch.cuda.current_stream().synchronize()
    return [{name: tensor.numpy() for name, tensor in image.items()} for image in copied]


def _record(image: PreparedImage, regions: dict[str, NDArray[Any]]) -> RegionRecord:
    attrs = regions["attribute_probs"]
    return RegionRecord(
        img_id=image.img_id,
        img_h=image.height,
        img_w=image.width,
        objects_id=regions["pred_classes"],
        objects_conf=regions["scores"],
        attrs_id=attrs[:, 1:].argmax(axis=1),
        attrs_conf=attrs[:, 1:].max(axis=1),
        boxes=regions["boxes"],
        features=regions["features"],
        cls_prob=regions["class_probs"],
        attrs=attrs,
    )
