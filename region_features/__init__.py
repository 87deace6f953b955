"""Region features for vision-and-language models: read what the pipeline writes, or detect regions in images.

`RegionFeatures` and `parse_example` need numpy, lmdb and protobuf; `Detector` needs the extra `worker`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from region_features.reading.dataset import RegionFeatures
from region_features.reading.tensorflow import parse_example

if TYPE_CHECKING:
    from region_features.detector import Detector

__all__ = ["Detector", "RegionFeatures", "parse_example"]


def __getattr__(name: str) -> Any:
    if name == "Detector":
        try:
            from region_features.detector import Detector
        except ModuleNotFoundError as error:
            raise ImportError(
                f"region_features.Detector: expected the extra `worker`, found no {error.name}; "
                "pip install 'region-features[worker]'"
            ) from error
        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
