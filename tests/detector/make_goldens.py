"""Copy the part of the original network's recordings that may be committed beside the tests.

The original Caffe program recorded the arrays with `tests/data/tiny.caffemodel`. Synthetic images are copied with all
arrays that a test reads; photographs may not be copied, so of theirs only the input and output of the region selection
are kept, which the selection's test reads without the image.

    python tests/detector/make_goldens.py FOLDER_WITH_IMAGES_AND_TINY
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent / "goldens"
# What each synthetic image is here for.
IMAGES = {
    "s20x20.png": "four proposals only",
    "s32x64.png": "151 proposals, enlarged 15 times",
    "s37x900.png": "a strip, scaled by its long side",
    "s3000x4000gray.jpg": "grey, reduced to a fifth, more regions over the threshold than are kept",
}
# The original crashes on these and recorded nothing.
CRASHES = ("s1x1.png", "s16x16.png", "s5x2000.png")
PHOTOS = (
    "000456",
    "000542",
    "COCO_train2014_000000084002",
    "COCO_train2014_000000131486",
    "COCO_train2014_000000132417",
    "COCO_train2014_000000306661",
    "exact36_0",  # a resized photograph
)
SELECTION = ("max_conf", "keep_boxes", "n_over_thresh", "branch")
# Probabilities of all 1601 classes and 401 attributes are bulky: the smallest images carry them.
BULKY = {"cls_prob", "attrs"}
WITH_BULKY = {"s20x20", "s32x64"}


def copy_arrays(recordings: Path, name: str, *, photo: bool) -> None:
    """Write the arrays of one image that a test reads."""
    with np.load(recordings / "tiny" / f"{name}.npz") as arrays:
        keys = SELECTION if photo else [key for key in arrays if key not in BULKY or name in WITH_BULKY]
        np.savez_compressed(HERE / f"{name}.npz", **{key: arrays[key] for key in keys})


def main() -> None:
    """Copy images and arrays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, help="folder with images/ and tiny/")
    recordings = parser.parse_args().recordings
    HERE.mkdir(exist_ok=True)
    for image in (*IMAGES, *CRASHES):
        shutil.copyfile(recordings / "images" / image, HERE / image)
    for image in IMAGES:
        copy_arrays(recordings, Path(image).stem, photo=False)
    for name in PHOTOS:
        copy_arrays(recordings, name, photo=True)
    print(f"{sum(path.stat().st_size for path in HERE.iterdir())} bytes in {HERE}")


if __name__ == "__main__":
    main()
