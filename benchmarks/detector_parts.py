"""Images a second of the network on this CPU, and the seconds of its parts, against a straight port.

    python benchmarks/detector_parts.py WEIGHTS [IMAGE ...] [--threads 2] [--rounds 2]

Both run in this process and take turns on every image. The straight port keeps batch normalisation apart, pushes all
300 regions through res5 in one batch, pools with torchvision and suppresses class by class in numpy. Without images,
scikit-image's photographs are taken. Each figure is the mean over the images of the best round.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage import data
from torchvision.ops import roi_pool

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from transforms.detector.caffe_weights import read_caffe_weights
from transforms.detector.meta_arch import BottomUpAttentionRCNN
from transforms.detector.model import Detector, build_network
from transforms.detector.preprocess import prepare
from transforms.detector.region_pool import max_tables, pool_chunk, pool_indices
from transforms.detector.selection import max_confidence, select
from transforms.records.prepared_image import BoxSettings

PARTS = ("preprocess", "trunk", "RPN and proposals", "RoI pool", "res5", "class NMS", "attributes")
Seconds = dict[str, float]
Result = tuple[NDArray[np.float32], NDArray[np.float32]]  # proposals, their features


class Clock:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: Seconds = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to a part."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start


def plain_confidence(boxes: NDArray[np.float32], scores: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """The original's loop over classes, each with its own suppression in numpy."""
    best = np.zeros(len(boxes))
    x1, y1, x2, y2 = boxes.T
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    for column in scores.T:
        order = column.argsort()[::-1]
        kept = []
        while order.size:
            first, rest = order[0], order[1:]
            kept.append(first)
            width = np.maximum(0, np.minimum(x2[first], x2[rest]) - np.maximum(x1[first], x1[rest]) + 1)
            height = np.maximum(0, np.minimum(y2[first], y2[rest]) - np.maximum(y1[first], y1[rest]) + 1)
            inter = width * height
            order = rest[inter / (areas[first] + areas[rest] - inter) < threshold]
        best[kept] = np.maximum(best[kept], column[kept])
    return best


def _finish(
    network: BottomUpAttentionRCNN,
    features: torch.Tensor,
    proposals: NDArray[np.float32],
    scale: float,
    plain: bool,
    clock: Clock,
) -> None:
    """Scores, per-class suppression and attributes: the port's for all regions, ours for the kept ones."""
    predictor = network.roi_heads.box_predictor
    with clock.part("attributes"):
        probs = predictor.class_probabilities(features)
        if plain:
            predictor.attribute_probabilities(features, probs.argmax(dim=1))
    with clock.part("class NMS"):
        confidence = (plain_confidence if plain else max_confidence)(
            proposals / np.float32(scale), probs[:, 1:].numpy(), network.class_nms
        )
        kept = torch.from_numpy(select(confidence, network.boxes).copy())
    if not plain:
        with clock.part("attributes"):
            predictor.attribute_probabilities(features[kept], probs[kept].argmax(dim=1))


def run(
    network: BottomUpAttentionRCNN, image: NDArray[np.uint8], clock: Clock, given: NDArray[np.float32] | None = None
) -> Result:
    """One image through the network, timed part by part.

    Args:
        network: the port's, or ours where `given` is there.
        image: (H, W, 3) BGR.
        clock: takes the times.
        given: the port's proposals, which ours goes on with, so that the features can be compared row by row.
    """
    plain = given is None
    with clock.part("preprocess"):
        photo = prepare("photo", image)
    layout = torch.contiguous_format if plain else torch.channels_last
    with clock.part("trunk"):
        pixels = torch.from_numpy(photo.pixels).permute(2, 0, 1)[None].contiguous(memory_format=layout)
        feature = network.backbone(pixels)["res4"]
    with clock.part("RPN and proposals"):
        proposals = network.proposal_generator(feature, photo.pixels.shape[:2], photo.scale)
    if given is not None:
        proposals = given
    regions = torch.from_numpy(proposals)
    if plain:
        with clock.part("RoI pool"):
            rois = torch.cat([regions.new_zeros(len(regions), 1), regions], dim=1)
            pooled = roi_pool(feature, rois, 14, 1 / 16)
        with clock.part("res5"):
            features = network.roi_heads.res5(pooled).mean(dim=(2, 3))
    else:
        with clock.part("RoI pool"):
            tables = max_tables(feature)
            indices = pool_indices(tables, proposals).split(network.roi_heads.chunk * 196, dim=1)
        outputs = []
        for index in indices:
            with clock.part("RoI pool"):
                part = pool_chunk(tables, index)
            with clock.part("res5"):
                outputs.append(network.roi_heads.res5(part).mean(dim=(2, 3)))
        features = torch.cat(outputs)
    _finish(network, features, proposals, photo.scale, plain, clock)
    return proposals, features.numpy()


def photographs(paths: list[str]) -> list[NDArray[np.uint8]]:
    """The images named, or scikit-image's, BGR."""
    if not paths:
        return [np.ascontiguousarray(photo()[:, :, ::-1]) for photo in (data.astronaut, data.coffee, data.chelsea)]
    images = []
    for path in paths:
        image = cv2.imread(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None:
            raise SystemExit(f"{path}: cannot be read as an image")
        images.append(image.astype(np.uint8, copy=False))
    return images


@torch.inference_mode()
def main() -> None:
    """Runs both and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("images", nargs="*")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = photographs(options.images)
    networks = {
        "straight": build_network(read_caffe_weights(options.weights), BoxSettings()),
        "ours": Detector.load(options.weights, "cpu", BoxSettings()).network,
    }
    best: dict[tuple[str, int], Seconds] = {}
    worst, largest = 0.0, 0.0
    for _ in range(options.rounds):
        for index, image in enumerate(images):
            clocks = {"straight": Clock(), "ours": Clock()}
            proposals, plain_features = run(networks["straight"], image, clocks["straight"])
            _, features = run(networks["ours"], image, clocks["ours"], given=proposals)
            for name, clock in clocks.items():
                known = best.get((name, index))
                if known is None or sum(clock.seconds.values()) < sum(known.values()):
                    best[name, index] = clock.seconds
            worst = max(worst, float(np.abs(features - plain_features).max()))
            largest = max(largest, float(np.abs(plain_features).max()))
    means = {
        name: {part: float(np.mean([best[name, i][part] for i in range(len(images))])) for part in PARTS}
        for name in networks
    }
    print(f"{len(images)} images, {options.threads} threads, load average {os.getloadavg()[0]:.1f}")
    print(f"{'seconds an image':20} {'straight':>9} {'ours':>9} {'ratio':>7}")
    rows_of_table = {part: (means["straight"][part], means["ours"][part]) for part in PARTS}
    rows_of_table["all"] = (sum(means["straight"].values()), sum(means["ours"].values()))
    for part, (plain, ours) in rows_of_table.items():
        print(f"{part:20} {plain:9.3f} {ours:9.3f} {plain / ours:7.2f}")
    plain, ours = rows_of_table["all"]
    print(f"{'images a second':20} {1 / plain:9.3f} {1 / ours:9.3f}")
    print(f"largest deviation of a feature: {worst:.1e}, of values up to {largest:.1f}")


if __name__ == "__main__":
    main()
