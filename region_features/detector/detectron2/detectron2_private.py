"""Every private name of detectron2 that the detector uses; tests/detector/test_private_apis.py checks them."""

from __future__ import annotations

import detectron2._C


def has_deformable_convolutions() -> bool:
    """Return whether this build of detectron2 was compiled with deformable convolutions."""
    return hasattr(detectron2._C, "deform_conv_forward")
