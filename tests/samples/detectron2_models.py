"""Small detectron2 models of two kinds, with random weights, and images for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from detectron2.layers import FrozenBatchNorm2d
from numpy.typing import NDArray

from region_features.detector.detectron2.config_file import read_config
from region_features.detector.detectron2.detector import build_detectron2_network
from region_features.records.detector_config import DetectorConfig

CONFIGS = {"c4": "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml", "fpn": "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"}
FEATURE_WIDTHS = {"c4": 2048, "fpn": 1024}
# Smaller images and fewer proposals, for speed; RGB and a deviation, so that neither can be forgotten.
SMALL_CONFIG = """
_BASE_: {base}
INPUT: {{MIN_SIZE_TEST: 96, MAX_SIZE_TEST: 160, FORMAT: RGB}}
MODEL:
  RPN: {{PRE_NMS_TOPK_TEST: 300, POST_NMS_TOPK_TEST: 70}}
  PIXEL_MEAN: [120.0, 110.0, 100.0]
  PIXEL_STD: [57.0, 58.0, 59.0]
"""


def read_config_file(path: object) -> DetectorConfig:
    """Read a detectron2 config file from the local disk."""
    return read_config(str(path), lambda name: Path(name).read_bytes())


def random_state(config: DetectorConfig) -> dict[str, torch.Tensor]:
    """Make weights under which values neither grow through the residual blocks nor are all alike."""
    torch.manual_seed(0)
    network = build_detectron2_network(config, "cpu")
    for name, module in network.named_modules():
        if isinstance(module, FrozenBatchNorm2d) and name.endswith("conv3.norm"):
            module.weight.fill_(0.3)
    network.roi_heads.box_predictor.cls_score.weight.mul_(30)
    return network.state_dict()


def photo(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Make an image of random blocks of 9 pixels."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 9 + 1, width // 9 + 1, 3), dtype=np.uint8)
    return blocks.repeat(9, axis=0).repeat(9, axis=1)[:height, :width]
