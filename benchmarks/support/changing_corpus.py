"""A corpus in COCO's layout that grows, shrinks and changes, for the benchmarks of rebuilds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from region_features.records.coco import CAPTIONS_FILE

_SETS = ("train2014", "val2014")
_SPLITS = ("train", "train", "restval", "val", "test")


class ChangingCorpus:
    """Images of one size as BMP files, so that changed ones have as many bytes, with five captions each.

    Args:
        folder: where it goes; made where it is missing.
        images: how many to begin with.
    """

    def __init__(self, folder: Path, images: int) -> None:
        self.folder = folder
        self._texts = {number: f"caption of {number}" for number in range(images)}
        self._next, self._seed = images, 0
        for name in _SETS:
            (folder / "images" / name).mkdir(parents=True, exist_ok=True)
        for number in self._texts:
            self._write(number)
        self._write_captions()

    def __len__(self) -> int:
        return len(self._texts)

    def _path(self, number: int) -> Path:
        name = _SETS[number % len(_SETS)]
        return self.folder / "images" / name / f"COCO_{name}_{number:012d}.bmp"

    def _write(self, number: int) -> None:
        self._seed += 1
        blocks = np.random.default_rng(self._seed).integers(40, 255, (2, 16, 3), dtype=np.uint8)
        Image.fromarray(blocks.repeat(10, 0).repeat(10, 1)).save(self._path(number))

    def _write_captions(self) -> None:
        rows = [
            {
                "filename": self._path(number).name,
                "cocoid": number,
                "split": _SPLITS[number % len(_SPLITS)],
                "sentences": [{"raw": f"{text}, {i}", "sentid": 10 * number + i} for i in range(5)],
            }
            for number, text in self._texts.items()
        ]
        (self.folder / CAPTIONS_FILE).write_text(json.dumps({"images": rows, "dataset": "coco"}))

    def _spread(self, count: int) -> Iterable[int]:
        """Return so many images, evenly spread over the corpus."""
        numbers = list(self._texts)
        return [numbers[position * len(numbers) // count] for position in range(count)]

    def change(self, added: int = 0, changed: int = 0, removed: int = 0, edited: int = 0) -> None:
        """Change the corpus: images that are new, have other pixels, are gone, and have other captions."""
        for number in self._spread(changed):
            self._write(number)
        for number in self._spread(removed):
            # Beside those that were changed above.
            gone = next(other for other in range(number + 1, self._next) if other in self._texts)
            self._path(gone).unlink()
            del self._texts[gone]
        for number in self._spread(edited):
            self._texts[number] += ", edited"
        for number in range(self._next, self._next + added):
            self._texts[number] = f"caption of {number}"
            self._write(number)
        self._next += added
        self._write_captions()
