"""Measure the seconds of the detector's parts on this CPU, beside those of a straight port.

    python -m benchmarks.detector_parts WEIGHTS [IMAGE ...] [--threads 2] [--rounds 2]

Both run in this process and take turns on every image; `benchmarks/support/straight_port.py` describes the port.
Without images, scikit-image's photographs are used. Each figure is the mean over the images of the better round.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from benchmarks.support import straight_port
from benchmarks.support.detector_sides import turns
from benchmarks.support.straight_port import PARTS
from region_features.detector import Detector
from region_features.records.prepared_image import PreparedImage
from region_features.records.settings import SelectionRule

REST = "the rest"
Seconds = dict[str, float]


class Clock:
    """Seconds by part; the time of a part inside another is not counted for the outer one."""

    def __init__(self) -> None:
        self.seconds: Seconds = dict.fromkeys((*PARTS, REST), 0.0)
        self._inner = [0.0]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a part."""
        self._inner.append(0.0)
        began = time.perf_counter()
        yield
        spent = time.perf_counter() - began
        self.seconds[name] += spent - self._inner.pop()
        self._inner[-1] += spent

    def over(self, owner: Any, method: str, name: str) -> None:
        """Time every call of an object's method as a part."""
        plain: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any, **settings: Any) -> Any:
            with self.part(name):
                return plain(*arguments, **settings)

        setattr(owner, method, timed)


def timed_detector(weights: str, clock: Clock) -> Detector:
    """Load the detector with its parts timed."""
    detector = Detector.load(weights, "cpu", SelectionRule())
    network: Any = detector.network
    heads = network.roi_heads
    clock.over(network.backbone, "forward", "trunk")
    clock.over(network.proposal_generator, "candidates", "RPN and proposals")
    clock.over(network.proposal_generator, "proposals", "RPN and proposals")
    clock.over(heads.res5, "forward", "res5")
    # The rest of the head, since res5 is timed apart.
    clock.over(heads, "forward", "RoI pool")
    clock.over(heads.box_predictor, "class_probabilities", "scores")
    clock.over(heads.box_predictor, "attribute_probabilities", "attributes")
    clock.over(network, "select_regions", "class NMS")
    return detector


def measure(weights: str, photos: Sequence[PreparedImage], rounds: int) -> dict[str, Seconds]:
    """Measure the seconds of the port's and the detector's parts: means over the images of the better round."""
    clocks = {"straight": Clock(), "ours": Clock()}
    port, detector = straight_port.load(weights, "cpu"), timed_detector(weights, clocks["ours"])
    best: dict[tuple[str, int], Seconds] = {}
    for _ in range(rounds):
        for index, photo in enumerate(photos):
            for name, clock in clocks.items():
                clock.seconds = dict.fromkeys((*PARTS, REST), 0.0)
                with clock.part(REST):
                    if name == "straight":
                        straight_port.detect(port, photo, clock.part)
                    else:
                        detector.detect([photo])
                known = best.get((name, index))
                if known is None or sum(clock.seconds.values()) < sum(known.values()):
                    best[name, index] = clock.seconds
    return {
        name: {part: float(np.mean([best[name, i][part] for i in range(len(photos))])) for part in (*PARTS, REST)}
        for name in clocks
    }


def main() -> int:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("images", nargs="*")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        photos = [photo for turn in turns(options.images, 1) for photo in turn]
        seconds = measure(options.weights, photos, options.rounds)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{len(photos)} images, {options.threads} threads, load average {os.getloadavg()[0]:.1f}")
    print(f"{'seconds an image':20} {'straight':>9} {'ours':>9} {'ratio':>7}")
    table = {part: (seconds["straight"][part], seconds["ours"][part]) for part in (*PARTS, REST)}
    table["all"] = (sum(seconds["straight"].values()), sum(seconds["ours"].values()))
    for part, (plain, ours) in table.items():
        print(f"{part:20} {plain:9.3f} {ours:9.3f} {plain / ours:7.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
