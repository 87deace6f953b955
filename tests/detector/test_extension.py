"""The network is a detectron2 extension: registered, built from a config, usable without one."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model

import region_features.detector
from region_features.detector import add_bottom_up_attention_config
from region_features.detector.architecture import RESNET_101, Architecture, Stage
from region_features.detector.network.config import architecture_of, network_config
from region_features.detector.network.meta_arch import BottomUpAttentionRCNN
from region_features.detector.network.roi_heads import BottomUpAttentionHeads
from region_features.records.settings import SelectionRule


def test_a_config_builds_the_published_network() -> None:
    cfg = get_cfg()
    add_bottom_up_attention_config(cfg)
    cfg.merge_from_list(["MODEL.DEVICE", "meta", "MODEL.BOTTOM_UP_ATTENTION.MAX_BOXES", 100])
    with torch.device("meta"):
        network = build_model(cfg)
    assert isinstance(network, BottomUpAttentionRCNN)
    assert network.selection == SelectionRule(36, 100, 0.2)
    assert [len(getattr(network.backbone, name)) for name in ("res2", "res3", "res4")] == [3, 4, 23]
    assert network.backbone.output_shape()["res4"].stride == 16
    assert network.roi_heads.res5[0].conv2.dilation == (2, 2)
    assert network.backbone.res3[0].conv1.stride == (2, 2) and network.backbone.res3[0].conv2.stride == (1, 1)


def test_a_config_keeps_the_architecture() -> None:
    assert architecture_of(network_config(RESNET_101, SelectionRule(), "cpu")) == RESNET_101


def test_parts_are_usable_without_a_config() -> None:
    stages = (Stage(1, 2, 4), Stage(1, 2, 4), Stage(1, 4, 8), Stage(2, 4, 16))
    net = Architecture(stem=2, stages=stages, rpn=4, classes=5, attributes=3, embedding=2, attribute_hidden=6)
    heads = BottomUpAttentionHeads(architecture=net).eval()
    regions = torch.tensor([[0.0, 0.0, 40.0, 40.0], [16.0, 0.0, 60.0, 30.0]])
    with torch.inference_mode():
        features = heads(torch.rand(1, 8, 4, 4), regions)
        assert features.shape == (2, 16)
        assert heads.box_predictor.class_probabilities(features).shape == (2, 6)


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Detektor"):
        _ = region_features.detector.Detektor
