"""A GPU's rate of matrix products, and the share of time in which it is busy."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from region_features.detector.precision import arithmetic, dtype_of

_SIDE, _PRODUCTS, _ATTEMPTS = 8192, 10, 3
Sample = tuple[float, float]  # time.perf_counter(), share of time in which the GPU was busy


def matmul_rate(precision: str) -> float:
    """Measure the FLOP/s of square matrix products in a precision of the detector; the best of some attempts."""
    device = torch.device("cuda")
    left, right = (torch.randn(_SIDE, _SIDE, device=device, dtype=dtype_of(precision)) for _ in range(2))
    best = float("inf")
    with arithmetic(precision, device):
        torch.matmul(left, right)
        for _ in range(_ATTEMPTS):
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(_PRODUCTS):
                torch.matmul(left, right)
            torch.cuda.synchronize()
            best = min(best, (time.perf_counter() - began) / _PRODUCTS)
    return 2 * _SIDE**3 / best


@contextmanager
def busy_samples() -> Iterator[list[Sample]]:
    """Let nvidia-smi sample the GPU's utilisation into the list, ten times a second."""
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
    """Return the mean share of time in which the GPU was busy between two moments.

    Raises:
        ValueError: there is no sample between them.
    """
    inside = [share for moment, share in samples if begin <= moment <= end]
    if not inside:
        raise ValueError(f"expected samples of nvidia-smi within {end - begin:.1f} s, got none; measure more images")
    return sum(inside) / len(inside)
