"""The sides that `benchmarks.detector` compares: a straight port, detectron2's own modules, and this detector.

    python -m benchmarks.support.detector_sides WEIGHTS SIDE [IMAGE ...]     # the peak memory of one of them, as JSON

A side is `port`, `detectron2`, or the precision in which this detector runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.support import eager_detectron2, straight_port
from benchmarks.support.child import peak_bytes
from benchmarks.support.photographs import photographs
from region_features.detector import Detector
from region_features.detector.precision import arithmetic
from region_features.detector.preprocess import prepare
from region_features.records.prepared_image import PreparedImage
from region_features.records.settings import FLOAT32, PRECISIONS

PORT, EAGER = "port", "detectron2"
SIDES = (PORT, EAGER, *PRECISIONS)
OURS = {precision: f"this detector, {precision}" for precision in PRECISIONS}
LABELS = {PORT: "straight port", EAGER: "detectron2's modules"} | OURS
Run = Callable[[Sequence[PreparedImage]], list[Any]]


def load_side(side: str, weights: str, device: str) -> Run:
    """Load a side; all but this detector process images one by one, in float32.

    Raises:
        ValueError: the weights cannot be used, or there is no such device or precision.
        OSError: the weights cannot be read.
    """
    if side not in (PORT, EAGER):
        return Detector.load(weights, device, precision=side).detect
    module: Any = straight_port if side == PORT else eager_detectron2
    network = module.load(weights, device)

    def run(photos: Sequence[PreparedImage]) -> list[Any]:
        with arithmetic(FLOAT32, torch.device(device)):
            results = [module.detect(network, photo) for photo in photos]
            if device == "cuda":
                torch.cuda.synchronize()
        return results

    return run


def turns(paths: Sequence[str], batch: int) -> list[list[PreparedImage]]:
    """Return the photographs in batches; the first ones are repeated until the last batch is full.

    Raises:
        ValueError: one cannot be read.
    """
    photos = [prepare(f"photo_{number}", image) for number, image in enumerate(photographs(paths))]
    count = -(-len(photos) // batch) * batch
    return [[photos[i % len(photos)] for i in range(start, start + batch)] for start in range(0, count, batch)]


def main() -> int:
    """Run one side once over the images and print its peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("images", nargs="*")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run = load_side(options.side, options.weights, options.device)
    for photos in turns(options.images, options.batch):
        run(photos)
    print(json.dumps({"peak": peak_bytes(options.device)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
