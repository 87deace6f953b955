"""Tell a GPU that fails at one batch from one that is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from region_features.detector.errors import DeviceLostError


@contextmanager
def detect_device_loss(device: torch.device) -> Iterator[None]:
    """Turn an error inside into a DeviceLostError if the GPU no longer computes.

    After some errors (an illegal address, a failed assertion, a card that fell off the bus) every later call of the
    process fails. No image is to blame then, and going on would report all that are left as failures.

    Raises:
        DeviceLostError: in place of the error that was raised inside.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        try:
            torch.ones(1, device=device).add_(1).item()
        except RuntimeError as probe_error:
            raise DeviceLostError(f"the GPU answers no more: {error}") from probe_error
        raise
