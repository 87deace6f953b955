"""What a precision means to torch, and which device can do it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from region_features.records.settings import CPU_PRECISIONS, PRECISIONS

_DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_AMPERE = (8, 0)


def dtype_of(precision: str) -> torch.dtype:
    """The type in which the regions' features are computed."""
    return _DTYPES[precision]


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse what a device cannot do, or only by emulation.

    Raises:
        ValueError: says what the device can do.
    """
    if precision not in _DTYPES:
        raise ValueError(f"--precision {precision}: expected one of {', '.join(PRECISIONS)}")
    if device.type == "cpu":
        if precision not in CPU_PRECISIONS:
            raise ValueError(f"--precision {precision}: a CPU does {' or '.join(CPU_PRECISIONS)} only; use one of them")
        if precision == "bfloat16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            raise ValueError("--precision bfloat16: this CPU does not have it (AVX-512 or AMX); use float32")
    elif precision in ("tf32", "bfloat16") and torch.cuda.get_device_capability(device) < _AMPERE:
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"--precision {precision}: {name} does not have it (Ampere or later); use float32 or float16")


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Inside, a GPU's float32 products are exact, or TF32's where less is wanted; torch's own default is a mixture."""
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
