"""The bottom-up-attention network as a detectron2 extension, exact to the original Caffe program.

Reader processes need only `region_features.detector.preprocess`, so torch and detectron2 are imported on first use of
`Detector`, `Detectron2Detector` or `add_bottom_up_attention_config`. The network's backbone, proposal generator, RoI
heads and meta architecture are then registered with detectron2.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from region_features.detector.errors import DetectionError, WeightsError

if TYPE_CHECKING:
    from region_features.detector.detectron2.detector import Detectron2Detector
    from region_features.detector.network.config import add_bottom_up_attention_config
    from region_features.detector.network.detector import Detector

__all__ = ["DetectionError", "Detector", "Detectron2Detector", "WeightsError", "add_bottom_up_attention_config"]

_LAZY = {
    "Detector": "region_features.detector.network.detector",
    "Detectron2Detector": "region_features.detector.detectron2.detector",
    "add_bottom_up_attention_config": "region_features.detector.network.config",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
