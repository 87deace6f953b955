"""The meaning of each precision to torch, and the devices that have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from region_features.detector.device import choose_device
from region_features.detector.torch_private import cpu_has_bfloat16
from region_features.records.settings import PRECISIONS, check_cpu_precision

_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_AMPERE = (8, 0)


def dtype_of(precision: str) -> torch.dtype:
    """Return the type in which the regions' features are computed."""
    return _HALF.get(precision, torch.float32)


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that a device lacks or only emulates.

    Raises:
        ValueError: says which precisions the device has.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"--precision {precision}: expected one of {', '.join(PRECISIONS)}")
    if device.type == "cpu":
        check_cpu_precision(precision)
        if precision == "bfloat16" and not cpu_has_bfloat16():
            raise ValueError("--precision bfloat16: this CPU does not have it (AVX-512 or AMX); use float32")
    elif precision in ("tf32", "bfloat16") and torch.cuda.get_device_capability(device) < _AMPERE:
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"--precision {precision}: {name} does not have it (Ampere or later); use float32 or float16")


def check_device(device: str, precision: str) -> None:
    """Refuse a device that this machine does not have, or a precision that the device does not have.

    Args:
        device: `auto`, `cpu` or `cuda`.
        precision: one of PRECISIONS.

    Raises:
        ValueError: says what to use instead, in one line.
    """
    check_precision(precision, torch.device(choose_device(device)))


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Compute float32 products on a GPU exactly, or in TF32 for a lower precision; torch's own default is a mixture."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        # No benchmark: its choice of algorithm, and with it the last bits, would differ from run to run.
        flags = {"enabled": True, "benchmark": False, "deterministic": False, "allow_tf32": precision != "float32"}
        with torch.backends.cudnn.flags(**flags):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
