"""Names of COCO and of Karpathy's captions: image sets, splits, files, archives, ids. No other file spells them out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

IMAGES_FOLDER = "images"
# VOLTA's names for the LMDBs of COCO's image sets: it reads training and validation images from one.
_LMDB_NAMES = {"train2014": "trainval", "val2014": "trainval", "test2015": "test"}
# The names of programs for VQA.
_VQA_NAMES = {"train2014": "train", "val2014": "val"}
# LXMERT's names for their TSVs.
_TSV_NAMES = {"train2014": "train", "val2014": "valid", "test2015": "test"}
IMAGE_SETS = tuple(_LMDB_NAMES)
# The sets that programs other than VOLTA read from one file, too.
TRAINVAL_SETS = ("train2014", "val2014")

CAPTIONS_FILE = "dataset_coco.json"
CAPTIONS_ARCHIVE = "caption_datasets"
TEST1K_FILE = "test1k_ids.txt"

# Karpathy's splits, and the start of the annotation file that each goes to; a file holds its splits in this order.
ANNOTATION_OF_SPLIT: Mapping[str, str] = {"train": "train", "restval": "train", "val": "valid", "test": "test"}
ANNOTATION_SUFFIX = "_ann.jsonl"
TEST1K_ANNOTATION = "test1k"
TRAIN_SPLITS = tuple(split for split, name in ANNOTATION_OF_SPLIT.items() if name == "train")
TEST_SPLIT = "test"

_ID = re.compile(r"COCO_[^_]+_\d{12}")
_SPLIT_OF_NAME = re.compile("train|val|test")
_SET_OF_ID = re.compile(r"COCO_([a-z]+[0-9]{4})_")


class Archive(NamedTuple):
    """An official zip archive: its name, its address, and the file or folder in the corpus that it is unpacked to."""

    name: str
    url: str
    target: str

    @property
    def filename(self) -> str:
        """The archive's file name."""
        return f"{self.name}.zip"


_KARPATHY = "https://cs.stanford.edu/people/karpathy/deepimagesent"
_COCO = "http://images.cocodataset.org/zips"  # shows the certificate of another host, so https fails
# Small archives come first.
ARCHIVES = (
    Archive(CAPTIONS_ARCHIVE, f"{_KARPATHY}/{CAPTIONS_ARCHIVE}.zip", CAPTIONS_FILE),
    *(Archive(name, f"{_COCO}/{name}.zip", f"{IMAGES_FOLDER}/{name}") for name in ("val2014", "test2015", "train2014")),
)


def lmdb_name(set_name: str) -> str:
    """Return the name of the LMDB that holds a set: `trainval` or `test` for COCO's sets, else the set's own name."""
    return _LMDB_NAMES.get(set_name, set_name)


def tsv_name(set_name: str) -> str:
    """Return the start of a set's TSV name: `train`, `valid` or `test` for COCO's sets, else the set's own name."""
    return _TSV_NAMES.get(set_name, set_name)


def vqa_name(set_name: str) -> str:
    """Return a set's name in programs for VQA: `train` or `val` for COCO's sets, else the set's own name."""
    return _VQA_NAMES.get(set_name, set_name)


def joint_name(set_name: str, joint: str) -> str:
    """Return the name of the file of a set: `joint` for COCO's training and validation images, else the set's own."""
    return joint if set_name in TRAINVAL_SETS else set_name


def without_coco(img_id: str) -> str:
    """Return an id of COCO without `COCO_`, `train2014_000000000009` for one; any other id as it is."""
    return img_id.removeprefix("COCO_") if is_coco_id(img_id) else img_id


def annotation_files() -> dict[str, list[str]]:
    """Return the splits that each annotation file holds, in the file's order; the 1K test set's file is left out."""
    files: dict[str, list[str]] = {}
    for split, start in ANNOTATION_OF_SPLIT.items():
        files.setdefault(start + ANNOTATION_SUFFIX, []).append(split)
    return files


def annotation_names() -> list[str]:
    """Name every annotation file that a run may write, that of the 1K test set last."""
    return [*annotation_files(), TEST1K_ANNOTATION + ANNOTATION_SUFFIX]


def set_of_id(img_id: str) -> str | None:
    """Return the image set in an id of COCO, `train2014` of `COCO_train2014_...`; None for any other id."""
    match = _SET_OF_ID.match(img_id)
    return match[1] if match else None


def caption_id(img_id: str) -> int | str:
    """Return the id under which programs know an image's captions: the number of an id of COCO, else the file stem."""
    return int(img_id.rpartition("_")[2]) if is_coco_id(img_id) else img_id


def numbered_id(prefix: str, img_id: str) -> str:
    """Put a prefix before an id that is only a number, which has twelve digits after one of COCO's."""
    if not (img_id.isascii() and img_id.isdigit()):
        return img_id
    return f"{prefix}{int(img_id):0{12 if prefix.startswith('COCO_') else 0}d}"


def split_of_names(*names: str) -> str:
    """Return the split that the first of these names tells that tells one, as `captions_val2014.json`; else `train`."""
    matches = (_SPLIT_OF_NAME.search(name) for name in names)
    return next((match[0] for match in matches if match), TRAIN_SPLITS[0])


def is_coco_id(img_id: str) -> bool:
    """Return whether a file stem has the form `COCO_val2014_000000000042`."""
    return _ID.fullmatch(img_id) is not None
