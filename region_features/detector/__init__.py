"""The bottom-up-attention network as a detectron2 extension, exact to the original Caffe program.

Reader processes need only `region_features.detector.preprocess`, so nothing heavy is imported here. The first use of
`region_features.detector.Detector` or `add_bottom_up_attention_config` imports torch and detectron2 and registers the
backbone, the proposal generator, the RoI heads and the meta architecture with detectron2.
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

_HEAVY = {
    "Detector": "region_features.detector.network.detector",
    "Detectron2Detector": "region_features.detector.detectron2.detector",
    "add_bottom_up_attention_config": "region_features.detector.network.config",
}


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(import_module(_HEAVY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
