"""Any detectron2 R-CNN with one box head as the detector: prepared images in, region records or errors out.

R: regions; K: kept regions; D: feature width; C: classes with background.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import DeformConv, ModulatedDeformConv
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.modeling.roi_heads import Res5ROIHeads
from detectron2.structures import Boxes
from torch import Tensor, nn

from region_features.detector.architecture import RESNET_101
from region_features.detector.detectron2.detectron2_private import has_deformable_convolutions
from region_features.detector.device import choose_device
from region_features.detector.device_loss import detect_device_loss
from region_features.detector.errors import ConfigError, DetectionError, WeightsError
from region_features.detector.given_regions import to_resized
from region_features.detector.network.selection import choose_regions
from region_features.detector.precision import arithmetic, check_precision, dtype_of
from region_features.detector.weights.messages import printable
from region_features.detector.weights.state import Arrays
from region_features.detector.weights.weights_file import read_checkpoint
from region_features.records.detector_config import DetectorConfig
from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import RegionRecord
from region_features.records.settings import DEFAULT_SELECTION, FLOAT32, SelectionRule

# detectron2 0.6 calls torch.meshgrid in a way that torch deprecated, and nothing here can act on that.
warnings.filterwarnings("ignore", message="torch.meshgrid")
CLASS_NMS = 0.3  # as in the bottom-up-attention network, so that a record's boxes mean the same
_COUNTER = ".num_batches_tracked"  # of a batch normalisation; not every checkpoint has it
# Regions that go through the box head together: those of a C4 network take 0.8 MB each when they are pooled.
_CHUNK = 64


def full_config(config: DetectorConfig, device: str) -> CfgNode:
    """Complete a config by detectron2's defaults and drop the heads that describe no region.

    Raises:
        ConfigError: detectron2 does not know one of its names, or a value has the wrong type.
    """
    cfg = get_cfg()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(yaml.safe_dump(dict(config.values)))
        # Without it, detectron2 warns of every config that has no VERSION, and takes it for the latest.
        logging.getLogger("detectron2.config.compat").setLevel(logging.ERROR)
        try:
            cfg.merge_from_file(str(path), allow_unsafe=False)
        except (KeyError, ValueError, AssertionError, TypeError) as error:
            reason = str(error.args[0] if error.args else error)
            raise ConfigError(f"{config.source}: expected what detectron2 knows, got: {reason}") from error
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = False
    cfg.MODEL.DEVICE = device
    return cfg


def build_detectron2_network(config: DetectorConfig, device: str) -> GeneralizedRCNN:
    """Build the network of a config, with random weights.

    Raises:
        ConfigError: detectron2 cannot build it, or could not run it.
    """
    cfg = full_config(config, device)
    try:
        with torch.device(device):
            network = build_model(cfg)
    except Exception as error:  # detectron2 has no error of its own for a config
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{config.source}: detectron2 cannot build this network: {reason}") from error
    deformable = any(isinstance(module, DeformConv | ModulatedDeformConv) for module in network.modules())
    if deformable and not has_deformable_convolutions():
        raise ConfigError(
            f"{config.source}: expected a network of torch's operators, got one with deformable convolutions, which "
            "this build of detectron2 was compiled without; install an official build"
        )
    return network.requires_grad_(False).eval()


def state_for(network: nn.Module, arrays: Arrays, where: str) -> dict[str, Tensor]:
    """Return the arrays of a network's state by name; other arrays of the checkpoint are ignored.

    Args:
        network: on any device, `meta` included.
        arrays: a checkpoint's.
        where: the file's name, for errors.

    Raises:
        WeightsError: some are missing or of another shape.
    """
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items() if not name.endswith(_COUNTER)}
    missing = [name for name in shapes if name not in arrays]
    if missing:
        examples = ", ".join(map(printable, sorted(arrays)[:3]))
        raise WeightsError(
            f"{where}: {len(missing)} of the {len(shapes)} arrays of the config's network are missing, {missing[0]} "
            f"for one; got {len(arrays)} arrays such as {examples}; are config and weights of one network?"
        )
    state = {}
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype.kind != "f":
            raise WeightsError(
                f"{where}, layer {name}: the config asks for floats of shape {shape}, got {array.dtype} of "
                f"{array.shape}; are config and weights of one network?"
            )
        state[name] = torch.from_numpy(np.array(array, np.float32))
    return state


def check_checkpoint(config: DetectorConfig, arrays: Arrays, where: str) -> None:
    """Compare a config with a checkpoint, without computing anything.

    Raises:
        ConfigError, WeightsError: one of the two cannot be used, or they belong to different networks.
    """
    state_for(build_detectron2_network(config, "meta"), arrays, where)


class Detectron2Detector:
    """A detectron2 network on one device."""

    def __init__(
        self,
        network: GeneralizedRCNN,
        device: torch.device,
        selection: SelectionRule = DEFAULT_SELECTION,
        precision: str = FLOAT32,
    ) -> None:
        """Move a loaded network to its device.

        Args:
            network: see `build_detectron2_network`.
            device: where it is to run.
            selection: how many regions an image keeps.
            precision: one of PRECISIONS.

        Raises:
            ValueError: the device does not have the precision.
        """
        check_precision(precision, device)
        self.network = network.to(device)
        self._selection, self._device, self._precision = selection, device, precision
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        config: DetectorConfig,
        weights: str,
        device: str = "auto",
        selection: SelectionRule = DEFAULT_SELECTION,
        precision: str = FLOAT32,
    ) -> Detectron2Detector:
        """Build the network of a config and fill in a checkpoint.

        Args:
            config: see `region_features.detector.detectron2.config_file`.
            weights: local path of a detectron2 checkpoint, `.pkl` or `.pth`.
            device: `auto`, `cpu` or `cuda`; `auto` is `cuda` if torch can use a GPU.
            selection: how many regions an image keeps.
            precision: one of PRECISIONS.

        Raises:
            ConfigError, WeightsError: one of the two cannot be used, or they belong to different networks.
            ValueError: there is no such device, or it does not have the precision.
            OSError: the file cannot be read.
        """
        chosen = torch.device(choose_device(device))
        network = build_detectron2_network(config, "cpu")
        network.load_state_dict(state_for(network, read_checkpoint(weights), weights), strict=False)
        return cls(network, chosen, selection, precision)

    @torch.inference_mode()
    def detect(self, images: Sequence[PreparedImage]) -> list[RegionRecord | DetectionError]:
        """Find the regions of each image, one at a time; an image's result does not depend on the others.

        Args:
            images: from `region_features.detector.detectron2.preprocess.prepare`.

        Returns:
            For each image, in order, its record or the reason why there is none.

        Raises:
            DeviceLostError: the GPU no longer computes.
        """
        results: list[RegionRecord | DetectionError] = []
        with self._lock, arithmetic(self._precision, self._device), detect_device_loss(self._device):
            for image in images:
                try:
                    results.append(self._record(image))
                except DetectionError as error:
                    results.append(error)
        return results

    def _record(self, image: PreparedImage) -> RegionRecord:
        height, width = image.pixels.shape[:2]
        if 0 in (height, width):
            raise DetectionError(
                f"image of {image.width}x{image.height} pixels is too thin: resized it would be {width}x{height}"
            )
        # Subtracts the mean, divides by the standard deviation and pads.
        batch = self.network.preprocess_image([{"image": torch.from_numpy(image.pixels).permute(2, 0, 1)}])
        features = self.network.backbone(batch.tensor)
        scale = np.array([width / image.width, height / image.height] * 2, np.float32)
        if image.boxes is None:
            (proposals,), _ = self.network.proposal_generator(batch, features, None)
            regions = proposals.proposal_boxes.tensor.float()
            boxes = regions / torch.from_numpy(scale).to(regions.device)
        else:
            boxes = torch.from_numpy(image.boxes).to(batch.tensor.device)
            regions = torch.from_numpy(to_resized(image.boxes, scale)).to(boxes.device)
        if len(regions) == 0:
            raise DetectionError(f"image of {image.width}x{image.height} pixels: the network proposes no region")
        dtype = dtype_of(self._precision)
        with torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32):
            parts = [self._describe(features, part) for part in regions.split(_CHUNK)]
        described, probs = (torch.cat(part).float() for part in zip(*parts, strict=True))  # (R, D), (R, C)
        if not probs.isfinite().all():
            raise DetectionError("the network gave numbers that are not finite; are the weights sound?")
        if image.boxes is None:
            (chosen,) = choose_regions([boxes], [probs[:, 1:]], CLASS_NMS, self._selection)
            kept = torch.from_numpy(chosen).to(boxes.device)
            boxes, described, probs = boxes[kept], described[kept], probs[kept]
        return _as_record(image, boxes, described, probs)

    def _describe(self, features: dict[str, Tensor], regions: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (R, D) and class probabilities (R, C), background first, of regions (R, 4)."""
        heads, boxes = self.network.roi_heads, [Boxes(regions)]
        if isinstance(heads, Res5ROIHeads):
            pooled = heads.res5(heads.pooler([features[name] for name in heads.in_features], boxes))
            described = hidden = pooled.mean(dim=(2, 3))
        else:
            hidden = heads.box_head(heads.box_pooler([features[name] for name in heads.box_in_features], boxes))
            # A box head without a fully connected layer gives maps.
            described = hidden.mean(dim=(2, 3)) if hidden.dim() == 4 else hidden
        (probs,) = heads.box_predictor.predict_probs(heads.box_predictor(hidden), boxes)
        return described, probs.roll(1, dims=1)


def _as_record(image: PreparedImage, boxes: Tensor, features: Tensor, probs: Tensor) -> RegionRecord:
    """Make a record; its attributes, which no detectron2 network has, are zeros as wide as bottom-up attention's."""
    cls_prob = probs.cpu().numpy()
    count = len(cls_prob)
    return RegionRecord(
        img_id=image.img_id,
        img_h=image.height,
        img_w=image.width,
        objects_id=cls_prob[:, 1:].argmax(axis=1),
        objects_conf=cls_prob[:, 1:].max(axis=1),
        attrs_id=np.zeros(count, np.int64),
        attrs_conf=np.zeros(count, np.float32),
        boxes=boxes.cpu().numpy(),
        features=features.cpu().numpy(),
        cls_prob=cls_prob,
        attrs=np.zeros((count, RESNET_101.attributes + 1), np.float32),
    )
