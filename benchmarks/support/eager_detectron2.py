"""The network built from detectron2's own modules, as its users run them, at this network's size and cost.

Built from a detectron2 config: ResNet C4 with Res5ROIHeads, RoIPool, 6000 boxes before and 300 after the proposals'
suppression, twelve anchors a cell, 36 detections, with the network's weights. What detectron2 does differently costs
less: it has no attribute head (0.04 % of the arithmetic), and suppresses only classes that score over 0.05.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet
from detectron2.structures import Instances
from torch import Tensor, nn

from region_features.detector.architecture import Architecture
from region_features.detector.weights.weights_file import read_weights
from region_features.records.prepared_image import PreparedImage

# detectron2 0.6 calls torch.meshgrid in a way that torch deprecated.
warnings.filterwarnings("ignore", message="torch.meshgrid")

_DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
# detectron2 counts anchors size by size, the weights ratio by ratio.
_SIZE_MAJOR = np.arange(12).reshape(3, 4).T.reshape(-1)


def dilated_res5(cfg: CfgNode) -> nn.Sequential:
    """Build a res5 that keeps its 14 x 14 cells, by dilation 2 in place of detectron2's stride 2."""
    channels = 8 * cfg.MODEL.RESNETS.RES2_OUT_CHANNELS
    blocks = ResNet.make_stage(
        BottleneckBlock,
        3,
        stride_per_block=[1, 1, 1],
        in_channels=channels // 2,
        bottleneck_channels=8 * cfg.MODEL.RESNETS.WIDTH_PER_GROUP,
        out_channels=channels,
        norm=cfg.MODEL.RESNETS.NORM,
        stride_in_1x1=cfg.MODEL.RESNETS.STRIDE_IN_1X1,
        dilation=2,
    )
    return nn.Sequential(*blocks)


def detectron2_config(architecture: Architecture, device: str) -> CfgNode:
    """Return the config of a network of these widths.

    Raises:
        ValueError: detectron2 has no network of this depth and these widths.
    """
    blocks = tuple(stage.blocks for stage in architecture.stages)
    first = architecture.stages[0]
    regular = [(stage.bottleneck, stage.channels) for stage in architecture.stages]
    if blocks not in _DEPTHS or regular != [(first.bottleneck << i, first.channels << i) for i in range(4)]:
        raise ValueError(
            f"expected the depth of ResNet-50, 101 or 152 and widths that double, as detectron2 builds them, got "
            f"{blocks} blocks of widths {regular}; give weights of full size, see benchmarks/full_size_weights.py"
        )
    cfg = get_cfg()
    model = cfg.MODEL
    model.DEVICE, model.MASK_ON, model.PIXEL_MEAN, model.PIXEL_STD = device, False, [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
    model.RESNETS.DEPTH, model.RESNETS.STEM_OUT_CHANNELS = _DEPTHS[blocks], architecture.stem
    model.RESNETS.WIDTH_PER_GROUP, model.RESNETS.RES2_OUT_CHANNELS = first.bottleneck, first.channels
    model.ANCHOR_GENERATOR.SIZES = [[64, 128, 256, 512]]
    model.RPN.CONV_DIMS, model.RPN.NMS_THRESH = [architecture.rpn], 0.7
    model.RPN.PRE_NMS_TOPK_TEST, model.RPN.POST_NMS_TOPK_TEST = 6000, 300
    model.ROI_HEADS.NUM_CLASSES = architecture.classes
    model.ROI_HEADS.NMS_THRESH_TEST = 0.3
    model.ROI_BOX_HEAD.POOLER_RESOLUTION, model.ROI_BOX_HEAD.POOLER_TYPE = 14, "ROIPool"
    # The network moves no region: deltas for every class would cost more.
    model.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    cfg.TEST.DETECTIONS_PER_IMAGE = 36
    return cfg


def _converted(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights in detectron2's order: one objectness logit, anchors size by size, background last."""
    out = {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
    head, scores = "proposal_generator.rpn_head", "roi_heads.box_predictor.cls_score"
    for kind in ("weight", "bias"):
        background, foreground = out[f"{head}.objectness_logits.{kind}"].chunk(2)
        out[f"{head}.objectness_logits.{kind}"] = (foreground - background)[_SIZE_MAJOR]
        deltas = out[f"{head}.anchor_deltas.{kind}"]
        out[f"{head}.anchor_deltas.{kind}"] = deltas.unflatten(0, (12, 4))[_SIZE_MAJOR].flatten(0, 1)
        out[f"{scores}.{kind}"] = out[f"{scores}.{kind}"].roll(-1, dims=0)
    return out


def load(weights: str, device: str) -> GeneralizedRCNN:
    """Build detectron2's network and fill in a file's weights.

    Raises:
        ValueError: detectron2 has no network of these widths.
    """
    file = read_weights(weights)
    cfg = detectron2_config(file.architecture, device)
    network = build_model(cfg)
    network.roi_heads.res5 = dilated_res5(cfg).to(device)
    converted = _converted(file.state)
    state = network.state_dict()
    missing = {name for name in state if name not in converted and "bbox_pred" not in name and "anchor" not in name}
    if missing:
        raise ValueError(f"{weights}: detectron2's network needs {sorted(missing)}, which the file does not have")
    network.load_state_dict({name: converted.get(name, tensor) for name, tensor in state.items()})
    return network.requires_grad_(False).eval()


@torch.inference_mode()
def detect(network: GeneralizedRCNN, photo: PreparedImage) -> Instances:
    """Put one image through detectron2's own `inference`, its suppression and post-processing included."""
    image = torch.from_numpy(photo.pixels).permute(2, 0, 1)
    (output,) = network.inference([{"image": image, "height": photo.height, "width": photo.width}])
    return output["instances"]
