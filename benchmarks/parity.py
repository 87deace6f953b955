"""Compare this detector with golden outputs of the original Caffe network, image by image.

    python -m benchmarks.parity WEIGHTS IMAGES_DIR GOLDEN_DIR

Print a table; exit with status 1 if an image fails. An image with a golden output must give as many boxes, at least 32
of 36 within 0.02 px, ids equal and numbers within 5e-5; a photograph (.jpg) must give all boxes in the same order, grey
extremes excepted. An image without a golden output (it crashed the original) must fail with an error of its own.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from region_features.detector import DetectionError, Detector
from region_features.detector.preprocess import prepare
from region_features.records.region_record import RegionRecord
from region_features.records.settings import SelectionRule

BOX_TOLERANCE = 0.02  # pixels
TOLERANCE = 5e-5
LEAST_SHARE = 32 / 36
COLUMNS = ("features", "cls_prob", "attrs", "conf", "boxes")


@dataclass(frozen=True)
class Row:
    """A row of the table, for one image."""

    matched: int
    count: int
    ordered: bool
    ids_equal: bool
    deviations: tuple[float, ...]

    def holds(self, strict: bool) -> bool:
        """Return whether the image passes; `strict` demands all boxes in the same order."""
        close = all(d <= TOLERANCE for d in self.deviations[:-1]) and self.deviations[-1] <= BOX_TOLERANCE
        enough = self.matched == self.count and self.ordered if strict else self.matched >= LEAST_SHARE * self.count
        return close and enough and self.ids_equal


def compare(record: RegionRecord, golden: dict[str, NDArray[Any]]) -> Row:
    """Match rows by box and take the largest deviations of the matched ones."""
    distance = np.abs(golden["boxes"][:, None] - record.boxes[None]).max(axis=2)
    rows = np.flatnonzero(distance.min(axis=1) < BOX_TOLERANCE)
    ours = distance.argmin(axis=1)[rows]

    def largest(name: str) -> float:
        return float(np.abs(golden[name][rows] - getattr(record, name)[ours]).max(initial=0))

    conf = max(largest("objects_conf"), largest("attrs_conf"))
    return Row(
        matched=len(set(ours.tolist())) if record.num_boxes == int(golden["num_boxes"]) else 0,
        count=int(golden["num_boxes"]),
        ordered=np.array_equal(ours, np.arange(len(golden["boxes"]))),
        ids_equal=largest("objects_id") == 0 and largest("attrs_id") == 0,
        deviations=(largest("features"), largest("cls_prob"), largest("attrs"), conf, largest("boxes")),
    )


def _line(detector: Detector, path: Path, golden_file: Path) -> tuple[str, bool]:
    """Return a line of the table and whether the image passes."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        return f"{path.stem:30} cannot be read as an image", False
    (result,) = detector.detect([prepare(path.stem, pixels.astype(np.uint8, copy=False))])
    if not golden_file.exists():
        failed = isinstance(result, DetectionError)
        return f"{path.stem:30} {'fails: ' if failed else 'gives a record: '}{result if failed else ''}", failed
    if isinstance(result, DetectionError):
        return f"{path.stem:30} NO RECORD: {result}", False
    with np.load(golden_file) as golden:
        row = compare(result, dict(golden))
    holds = row.holds(strict=path.suffix == ".jpg" and not path.stem.endswith("gray"))
    numbers = "  ".join(f"{deviation:8.1e}" for deviation in row.deviations)
    order, ids = ("yes" if row.ordered else "no"), ("equal" if row.ids_equal else "DIFFER")
    mark = "" if holds else "  <- does not hold"
    return f"{path.stem:30} {row.matched:3}/{row.count:<3} {order:>5}  {ids:6}  {numbers}{mark}", holds


def main() -> int:
    """Print the table; return 0 if every image passes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("images", type=Path, help="folder of images")
    parser.add_argument("golden", type=Path, help="folder of NAME.npz")
    options = parser.parse_args()
    paths = sorted(path for path in options.images.iterdir() if path.is_file())
    compared = [path for path in paths if (options.golden / f"{path.stem}.npz").exists()]
    if not compared:
        parser.error(f"no image of {options.images} has a golden output in {options.golden}")
    detector = Detector.load(options.weights, "cpu", SelectionRule())
    print(f"{'image':30} {'boxes':7} order  ids     " + "  ".join(f"{name:>8}" for name in COLUMNS))
    lines = [_line(detector, path, options.golden / f"{path.stem}.npz") for path in paths]
    print("\n".join(text for text, _ in lines))
    wrong = sum(not holds for _, holds in lines)
    print(
        f"{len(paths)} images, {len(compared)} with a golden output: " + ("all hold" if not wrong else f"{wrong} wrong")
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
