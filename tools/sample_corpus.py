"""Make a small corpus in the shape of COCO out of the photographs that scikit-image ships.

``python tools/sample_corpus.py demo/mscoco`` writes::

    demo/mscoco/
     |-- dataset_coco.json      Karpathy's schema: five captions an image, all four splits
     |-- test1k_ids.txt         coco ids of a subset of split test
     |-- images/train2014/COCO_train2014_000000000010.jpg
     |-- images/val2014/COCO_val2014_000000000001.jpg ...

No photograph is downloaded. The folder appears only when it is complete; a second run leaves it unchanged.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

JPEG_QUALITY = 95
CAPTIONS_FILE = "dataset_coco.json"
TEST1K_FILE = "test1k_ids.txt"


@dataclass(frozen=True)
class Photo:
    """A photograph of scikit-image's data folder and its captions."""

    source: str
    coco_id: int
    split: str
    captions: tuple[str, ...]
    folder: str = "val2014"

    @property
    def filename(self) -> str:
        """COCO's name of the image, e.g. ``COCO_val2014_000000000001.jpg``."""
        return f"COCO_{self.folder}_{self.coco_id:012d}.jpg"


# In the order of dataset_coco.json: splits are mixed and some captions end in a blank, as in Karpathy's file.
PHOTOS = (
    Photo(
        "astronaut.png",
        1,
        "test",
        (
            "A smiling astronaut in an orange suit sits in front of an American flag.",
            "A woman with short hair wears an orange space suit. ",
            "An astronaut poses beside her helmet and a model of a space shuttle.",
            "Portrait of a woman in a space suit with mission patches.",
            "A white helmet with a dark visor rests beside an astronaut. ",
        ),
    ),
    Photo(
        "chelsea.png",
        2,
        "val",
        (
            "A close up of the face of a tabby cat.",
            "An orange and brown striped cat with green eyes.",
            "A cat with long white whiskers looks to the side. ",
            "The face of a cat fills the picture.",
            "A cat with a pink nose is lying down indoors.",
        ),
    ),
    Photo(
        "coffee.png",
        3,
        "restval",
        (
            "A red cup of espresso on a red saucer.",
            "A cup of coffee with a small spoon on a wooden table.",
            "An espresso is served as in a café, with a spoon on the saucer.",
            "A cup, a saucer and a metal spoon stand on a wooden table. ",
            "A small cup half full of coffee seen from above.",
        ),
    ),
    Photo(
        "camera.png",
        4,
        "val",
        (
            "A man in a dark coat looks through a camera on a tripod.",
            "A black and white photo of a man filming on a lawn. ",
            "A photographer bends over his camera in an open field.",
            "A man with gloves works a camera, with buildings far behind him.",
            "A camera on a tripod and a man in a long coat.",
        ),
    ),
    Photo(
        "motorcycle_left.png",
        10,
        "train",
        (
            "A red motorcycle is parked in a garage.",
            "A motorcycle with a black seat stands on a concrete floor. ",
            "A shiny red motorbike in front of a shelf with boxes.",
            "A motorcycle leans on its stand near a wooden bench.",
            "A garage with a motorcycle, shelves and cardboard boxes.",
        ),
        folder="train2014",
    ),
    Photo(
        "rocket.jpg",
        5,
        "test",
        (
            "A white rocket stands on its launch pad at dusk.",
            "A rocket between tall lattice towers under a dark blue sky.",
            "Bright lights shine around a rocket before its launch. ",
            "A tall rocket is ready for launch in the evening.",
            "A launch pad with a rocket, four towers and lights.",
        ),
    ),
    Photo(
        "coins.png",
        6,
        "test",
        (
            "Rows of old coins on a dark background.",
            "Four rows of ancient coins with worn faces. ",
            "A black and white photo of a collection of coins.",
            "Twenty four round coins of different sizes.",
            "Old metal coins are laid out in rows.",
        ),
    ),
    Photo(
        "moon.png",
        7,
        "restval",
        (
            "The grey surface of the moon with a few craters.",
            "A round crater on the surface of the moon.",
            "A black and white view of lunar ground. ",
            "Small craters and dark hollows on a grey plain.",
            "The surface of the moon seen from above.",
        ),
    ),
    Photo(
        "hubble_deep_field.jpg",
        8,
        "test",
        (
            "Hundreds of galaxies on a black sky.",
            "Many small points of light in deep space. ",
            "A picture of distant galaxies taken by a space telescope.",
            "Red, white and blue galaxies are spread over a dark sky.",
            "Deep space full of tiny bright galaxies.",
        ),
    ),
    Photo(
        "gravel.png",
        9,
        "val",
        (
            "A ground covered with gravel.",
            "Many small sharp stones lie close together.",
            "A black and white close up of crushed stone. ",
            "Grey gravel fills the whole picture.",
            "Small stones of many shapes seen from above.",
        ),
    ),
)
TEST1K_IDS = (1, 6)


class CorpusError(Exception):
    """The corpus cannot be made here."""


def tokens(raw: str) -> list[str]:
    """Split a caption into lower-case words without punctuation, as Karpathy's file has them."""
    return re.findall(r"\w+", raw.lower())


def dataset(photos: Sequence[Photo]) -> dict[str, Any]:
    """Return the content of dataset_coco.json, in its own key order; sentence ids count from 1."""
    images = []
    sentence_id = 1
    for image_id, photo in enumerate(photos):
        sentences = [
            {"tokens": tokens(raw), "raw": raw, "imgid": image_id, "sentid": number}
            for number, raw in enumerate(photo.captions, start=sentence_id)
        ]
        sentence_id += len(sentences)
        images.append(
            {
                "filepath": photo.folder,
                "sentids": [sentence["sentid"] for sentence in sentences],
                "filename": photo.filename,
                "imgid": image_id,
                "split": photo.split,
                "sentences": sentences,
                "cocoid": photo.coco_id,
            }
        )
    return {"images": images, "dataset": "coco"}


def data_folder() -> Path:
    """Find scikit-image's data folder without importing scikit-image.

    Raises:
        CorpusError: scikit-image is not installed.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise CorpusError("expected scikit-image, whose photographs make the corpus: pip install scikit-image")
    return Path(spec.origin).parent / "data"


def write_corpus(folder: Path, photos: Sequence[Photo] = PHOTOS) -> None:
    """Write images, captions and test1k ids into a new folder.

    Raises:
        CorpusError: this scikit-image does not ship one of the photographs.
    """
    for photo in photos:
        source = data_folder() / photo.source
        if not source.is_file():
            raise CorpusError(f"{source}: expected this photograph, found no file: install scikit-image 0.26")
        target = folder / "images" / photo.folder / photo.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(source) as image:
            image.save(target, "JPEG", quality=JPEG_QUALITY)
    (folder / TEST1K_FILE).write_text("".join(f"{coco_id}\n" for coco_id in TEST1K_IDS), encoding="utf-8")
    (folder / CAPTIONS_FILE).write_text(json.dumps(dataset(photos)), encoding="utf-8")


def missing_files(folder: Path, photos: Sequence[Photo] = PHOTOS) -> list[str]:
    """List the files of the corpus that ``folder`` lacks, and the captions file if it differs from the expected one."""
    names = [*(f"images/{photo.folder}/{photo.filename}" for photo in photos), TEST1K_FILE]
    missing = [name for name in names if not (folder / name).is_file()]
    captions = folder / CAPTIONS_FILE
    if not captions.is_file() or captions.read_text(encoding="utf-8") != json.dumps(dataset(photos)):
        missing.append(CAPTIONS_FILE)
    return missing


def publish_corpus(folder: Path) -> bool:
    """Make the corpus under a temporary name and rename it to ``folder``.

    Returns:
        Whether the corpus was written; False if ``folder`` already holds it.

    Raises:
        CorpusError: ``folder`` holds something else, or scikit-image or one of its photographs is missing.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        missing = missing_files(folder)
        if missing:
            raise CorpusError(
                f"{folder}: expected no folder or a whole sample corpus, but {missing[0]} is missing or different: "
                "delete the folder or name another"
            )
        return False
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    write_corpus(partial)
    os.replace(partial, folder)
    return True


def main(argv: list[str] | None = None) -> int:
    """Run the command line and print one line about the result."""
    parser = argparse.ArgumentParser(description="Make a small COCO-shaped corpus.", allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="where the corpus is written")
    folder = parser.parse_args(argv).folder
    try:
        made = publish_corpus(folder)
    except (CorpusError, OSError) as error:
        print(f"sample_corpus: {error}", file=sys.stderr)
        return 1
    print(f"{folder}: {len(PHOTOS)} images with captions {'written' if made else 'are already there, nothing to do'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
