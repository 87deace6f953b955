"""The bottom-up-attention network as a detectron2 extension, exact to the original Caffe program.

Reader processes need only `transforms.detector.preprocess`, so nothing heavy is imported here. The first use of
`transforms.detector.Detector` or `add_bottom_up_attention_config` imports torch and detectron2 and registers the
backbone, the proposal generator, the RoI heads and the meta architecture with detectron2.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from transforms.detector.errors import DetectionError, WeightsError

if TYPE_CHECKING:
    from transforms.detector.config import add_bottom_up_attention_config
    from transforms.detector.generic import GenericDetector
    from transforms.detector.model import Detector

__all__ = ["DetectionError", "Detector", "GenericDetector", "WeightsError", "add_bottom_up_attention_config"]

_HEAVY = {
    "Detector": "transforms.detector.model",
    "GenericDetector": "transforms.detector.generic",
    "add_bottom_up_attention_config": "transforms.detector.config",
}


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(import_module(_HEAVY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
