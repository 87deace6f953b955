"""The detector as the pipeline sees it: prepared images in, region records or errors out.

Importing this module registers the network's parts with detectron2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.modeling import build_model
from detectron2.structures import Instances
from numpy.typing import NDArray
from torch import Tensor

from transforms.detector.config import network_config
from transforms.detector.errors import DetectionError
from transforms.detector.fold import fold_batch_norm
from transforms.detector.fused import available, fuse_blocks
from transforms.detector.meta_arch import BottomUpAttentionRCNN
from transforms.detector.region_pool import POOLED_SIDE
from transforms.detector.weights import Weights
from transforms.detector.weights_file import read_weights
from transforms.records.prepared_image import BoxSettings, PreparedImage
from transforms.records.region_record import RegionRecord

_TRUNK_SIDES = ((150, 200), (150, 200), (75, 100))  # inputs of res2, res3 and res4 for a photo of 3 to 4


def build_network(weights: Weights, boxes: BoxSettings) -> BottomUpAttentionRCNN:
    """The network with its weights, on the CPU, for extraction, batch normalisation not yet folded."""
    # On the meta device nothing is filled with random numbers only to be overwritten.
    with torch.device("meta"):
        network = build_model(network_config(weights.architecture, boxes, device="meta"))
    state = {name: torch.from_numpy(np.array(array)) for name, array in weights.state.items()}
    network.load_state_dict(state, strict=True, assign=True)
    return network.requires_grad_(False).eval()


def _host(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.cpu().numpy()


def _record(img_id: str, found: Instances) -> RegionRecord:
    attrs = _host(found.attribute_probs)
    return RegionRecord(
        img_id=img_id,
        img_h=found.image_size[0],
        img_w=found.image_size[1],
        objects_id=found.pred_classes.cpu().numpy(),
        objects_conf=_host(found.scores),
        attrs_id=attrs[:, 1:].argmax(axis=1),
        attrs_conf=attrs[:, 1:].max(axis=1),
        boxes=_host(found.pred_boxes.tensor),
        features=_host(found.features),
        cls_prob=_host(found.class_probs),
        attrs=attrs,
    )


class Detector:
    """The network on one device."""

    def __init__(self, network: BottomUpAttentionRCNN, device: torch.device) -> None:
        """Takes a loaded network and readies it for speed: folded, channels last, fused where it runs on the CPU.

        Args:
            network: on the CPU; changed in place.
            device: where it is to run.
        """
        fold_batch_norm(network)
        self._device = device
        self.network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if device.type == "cpu" and available():
            fuse_blocks(network.roi_heads.res5, (network.roi_heads.chunk, POOLED_SIDE, POOLED_SIDE))
            for name, side in zip(network.backbone.stage_names, _TRUNK_SIDES, strict=True):
                fuse_blocks(getattr(network.backbone, name), (1, *side))

    @classmethod
    def load(cls, weights: str, device: str, boxes: BoxSettings) -> Detector:
        """Reads a weights file and builds the network that it describes.

        Args:
            weights: local path of a file that `read_weights` knows.
            device: `cpu` or `cuda`.
            boxes: how many boxes an image gets.

        Raises:
            WeightsError: the file cannot be used; says why.
            OSError: the file cannot be read.
            RuntimeError: `cuda` was asked for and there is none.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("expected a CUDA device, got none; give --device cpu, or check the driver")
        return cls(build_network(read_weights(weights), boxes), torch.device(device))

    def _input(self, image: PreparedImage) -> dict[str, object]:
        pixels = torch.from_numpy(image.pixels).to(self._device).permute(2, 0, 1)
        size = {"scale": image.scale, "height": image.height, "width": image.width}
        return {"image": pixels, **size, "boxes": image.boxes}

    @torch.inference_mode()
    def detect(self, images: Sequence[PreparedImage]) -> list[RegionRecord | DetectionError]:
        """Finds the regions of each image; an image's result does not depend on the others.

        Args:
            images: as `prepare` gives them, any sizes.

        Returns:
            For each image, in order, its record or the reason why there is none.
        """
        outputs = self.network([self._input(image) for image in images])
        return [
            output["error"] if "error" in output else _record(image.img_id, output["instances"])
            for image, output in zip(images, outputs, strict=True)
        ]
