"""Copies the synthetic part of the original network's golden outputs beside the tests.

The arrays come from the original Caffe program run on `tests/data/tiny.caffemodel`; only the images that are synthetic
are kept here, without the arrays that the tests do not look at.

    python tests/detector/make_goldens.py GOLDEN_FOLDER
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent / "goldens"
# What each image is here for.
IMAGES = {
    "s20x20": "four proposals only",
    "s32x64": "151 proposals, enlarged 15 times",
    "s37x900": "a strip, scaled by its long side",
}
# Class probabilities of all 1601 classes are bulky: the smallest images carry them, and the attributes.
BULKY = {"cls_prob", "attrs"}
WITH_BULKY = {"s20x20", "s32x64"}


def main() -> None:
    """Copies images and arrays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path, help="folder with images/ and tiny/")
    golden = parser.parse_args().golden
    HERE.mkdir(exist_ok=True)
    for name, why in IMAGES.items():
        shutil.copyfile(golden / "images" / f"{name}.png", HERE / f"{name}.png")
        with np.load(golden / "tiny" / f"{name}.npz") as arrays:
            wanted = {key: arrays[key] for key in arrays if key not in BULKY or name in WITH_BULKY}
        np.savez_compressed(HERE / f"{name}.npz", **wanted)
        print(f"{name}: {why}, {sum((HERE / (name + end)).stat().st_size for end in ('.png', '.npz'))} bytes")


if __name__ == "__main__":
    main()
