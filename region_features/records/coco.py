"""COCO's and Karpathy's names: image sets, splits, files, archives, ids. No other file spells one out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

CAPTIONS_FILE = "dataset_coco.json"
CAPTIONS_ARCHIVE = "caption_datasets"
TEST1K_FILE = "test1k_ids.txt"
IMAGES_FOLDER = "images"

# Karpathy's splits, each with the annotation file that holds it; a file holds its splits in this order.
ANNOTATION_OF_SPLIT: Mapping[str, str] = {"train": "train", "restval": "train", "val": "valid", "test": "test"}
ANNOTATION_SUFFIX = "_ann.jsonl"
TEST1K_ANNOTATION = "test1k"
TRAIN_SPLITS = tuple(split for split, name in ANNOTATION_OF_SPLIT.items() if name == "train")
TEST_SPLIT = "test"

_ID = re.compile(r"COCO_[^_]+_\d{12}")
_SET_OF_ID = re.compile(r"COCO_([a-z]+[0-9]{4})_")


class ImageSet(NamedTuple):
    """One of COCO's image sets, and what VOLTA and LXMERT call its LMDB and its TSV."""

    name: str
    lmdb: str
    tsv: str


class Archive(NamedTuple):
    """One official archive: its name, its address, and what it becomes below the corpus folder."""

    name: str
    url: str
    target: str

    @property
    def filename(self) -> str:
        """The archive's file name."""
        return f"{self.name}.zip"


IMAGE_SETS: Mapping[str, ImageSet] = {
    image_set.name: image_set
    for image_set in (
        # VOLTA reads training and validation images from one LMDB.
        ImageSet("train2014", lmdb="trainval", tsv="train"),
        ImageSet("val2014", lmdb="trainval", tsv="valid"),
        ImageSet("test2015", lmdb="test", tsv="test"),
    )
}
# COCO's host shows the certificate of another name, so https fails there. Small archives come first.
ARCHIVES = (
    Archive(
        "caption_datasets",
        "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
        CAPTIONS_FILE,
    ),
    *(
        Archive(name, f"http://images.cocodataset.org/zips/{name}.zip", f"{IMAGES_FOLDER}/{name}")
        for name in ("val2014", "test2015", "train2014")
    ),
)


def lmdb_name(set_name: str) -> str:
    """The LMDB that holds a set: `trainval` or `test` for COCO's sets, else the set's own name."""
    return IMAGE_SETS[set_name].lmdb if set_name in IMAGE_SETS else set_name


def tsv_name(set_name: str) -> str:
    """The start of a set's TSV name: `train`, `valid` or `test` for COCO's sets, else the set's own name."""
    return IMAGE_SETS[set_name].tsv if set_name in IMAGE_SETS else set_name


def annotation_files() -> dict[str, tuple[str, ...]]:
    """Annotation file -> the splits that it holds, in its order; the file of the 1K test set is not among them."""
    files: dict[str, tuple[str, ...]] = {}
    for split, name in ANNOTATION_OF_SPLIT.items():
        files[name + ANNOTATION_SUFFIX] = (*files.get(name + ANNOTATION_SUFFIX, ()), split)
    return files


def set_of_id(img_id: str) -> str | None:
    """The image set that an id of COCO names, `train2014` of `COCO_train2014_...`; None for another id."""
    match = _SET_OF_ID.match(img_id)
    return match[1] if match else None


def is_coco_id(img_id: str) -> bool:
    """Whether the file stem carries a coco id, as `COCO_val2014_000000000042` does."""
    return _ID.fullmatch(img_id) is not None
