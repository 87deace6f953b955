"""What a GPU can do, and how much of the time it does anything."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from region_features.detector.precision import arithmetic, dtype_of

_SIDE, _PRODUCTS, _TRIES = 8192, 10, 3
Sample = tuple[float, float]  # time.perf_counter(), share of the time that the GPU was busy


def matmul_rate(precision: str) -> float:
    """FLOP/s of square matrix products on the GPU in a precision of the detector; the best of some tries."""
    device = torch.device("cuda")
    left, right = (torch.randn(_SIDE, _SIDE, device=device, dtype=dtype_of(precision)) for _ in range(2))
    best = float("inf")
    with arithmetic(precision, device):
        torch.matmul(left, right)
        for _ in range(_TRIES):
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(_PRODUCTS):
                torch.matmul(left, right)
            torch.cuda.synchronize()
            best = min(best, (time.perf_counter() - began) / _PRODUCTS)
    return 2 * _SIDE**3 / best


@contextmanager
def busy_samples() -> Iterator[list[Sample]]:
    """Inside, nvidia-smi samples the GPU's utilisation ten times a second into the list."""
    uuid = torch.cuda.get_device_properties(0).uuid
    query = ["nvidia-smi", "-i", f"GPU-{uuid}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    samples: list[Sample] = []
    with subprocess.Popen([*query, "-lms", "100"], stdout=subprocess.PIPE, text=True) as process:
        lines = process.stdout
        assert lines is not None

        def collect() -> None:
            samples.extend((time.perf_counter(), float(line) / 100) for line in lines)

        reader = threading.Thread(target=collect, daemon=True)
        reader.start()
        try:
            yield samples
        finally:
            process.terminate()
            reader.join()


def busy_between(samples: list[Sample], begin: float, end: float) -> float:
    """Mean share of the time that the GPU was busy.

    Raises:
        ValueError: no sample falls between the two.
    """
    inside = [share for moment, share in samples if begin <= moment <= end]
    if not inside:
        raise ValueError(f"expected samples of nvidia-smi within {end - begin:.1f} s, got none; measure more images")
    return sum(inside) / len(inside)
