"""Beam's RunInference without torch: Beam 2.77 imports torch for its optional model manager wherever it is installed.

Job submission and --help import this module, and take neither the seconds nor the memory of torch.
"""

from __future__ import annotations

import sys

_MODEL_MANAGER = "apache_beam.ml.inference.model_manager"

# None in sys.modules makes its import an ImportError, which Beam answers by going without it.
_blocked = sys.modules.setdefault(_MODEL_MANAGER, None) is None  # type: ignore[arg-type]
try:
    from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference
finally:
    if _blocked:
        del sys.modules[_MODEL_MANAGER]

__all__ = ["KeyedModelHandler", "ModelHandler", "RunInference"]
