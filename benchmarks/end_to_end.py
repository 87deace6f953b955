"""Images a second of the whole program, decode and TFRecord writing included, and how busy it keeps the GPU.

    python -m benchmarks.end_to_end WEIGHTS [--device cuda --precision bfloat16 --images 1000]

`beam_pipeline.pipeline.main` runs over JPEGs made here. The clock runs from the end of the first fifth of the batches
to the end of the last: loading the network is no part of it. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from beam_pipeline.pipeline import main as program
from benchmarks.gpu import Sample, busy_between, busy_samples
from benchmarks.support.child import peak_bytes
from benchmarks.support.photographs import photographs, write_jpegs
from region_features.detector import Detector
from region_features.records.prepared_image import PreparedImage
from region_features.records.settings import FLOAT32, PRECISIONS

Batch = tuple[float, int]  # time.perf_counter() at its end, images


@contextmanager
def recorded_batches() -> Iterator[list[Batch]]:
    """Inside, every batch that a detector in this process has finished."""
    detect, batches = Detector.detect, []

    def recording(self: Detector, images: Sequence[PreparedImage]) -> Any:
        results = detect(self, images)
        batches.append((time.perf_counter(), len(images)))
        return results

    with mock.patch.object(Detector, "detect", recording):
        yield batches


def steady(batches: Sequence[Batch]) -> tuple[float, float, int]:
    """Begin, end and images of the time after the first fifth of the batches.

    Raises:
        ValueError: there are too few.
    """
    if len(batches) < 2:
        raise ValueError(f"expected at least two batches of images, got {len(batches)}; give more images")
    batches = sorted(batches)
    skipped = max(1, len(batches) // 5)
    return batches[skipped - 1][0], batches[-1][0], sum(images for _, images in batches[skipped:])


def measure(weights: str, device: str, precision: str, count: int, named: Sequence[str]) -> dict[str, float | None]:
    """Runs the program in this process.

    Args:
        weights: as --weights.
        device: `cpu` or `cuda`.
        precision: as --precision.
        count: images.
        named: image files that the JPEGs are made from; scikit-image's where there are none.

    Returns:
        `rate`, images/s; `busy`, share of the time that the GPU was busy, None on a CPU; `peak`, bytes.

    Raises:
        RuntimeError: the run failed.
        ValueError: it was too short to be timed, or an image cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        write_jpegs(images, count, photographs(named))
        arguments = ["--images", str(images), "--weights", weights, "--output", str(Path(folder) / "out")]
        arguments += ["--outputs", "tfrecord", "--device", device]
        if precision != FLOAT32:
            arguments += ["--precision", precision]
        sampling: AbstractContextManager[list[Sample]] = busy_samples() if device == "cuda" else nullcontext([])
        with recorded_batches() as batches, sampling as samples:
            status = program(arguments)
    if status != 0:
        raise RuntimeError(f"expected the program to end with status 0, got {status}; it says why above")
    begin, end, done = steady(batches)
    busy = busy_between(samples, begin, end) if device == "cuda" else None
    return {"rate": done / (end - begin), "busy": busy, "peak": peak_bytes(device)}


def main() -> int:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("files", nargs="*", help="images; default scikit-image's photographs")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default=FLOAT32)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(json.dumps(measure(options.weights, options.device, options.precision, options.images, options.files)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
