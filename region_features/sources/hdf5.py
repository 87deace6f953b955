"""Records of HDF5 files: the Meshed-Memory Transformer's, and those of bottom-up-attention VQA.

K: boxes of an image; D: feature width.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from region_features.formats.foreign_record import UNKNOWN_SIZE, record_of
from region_features.formats.hdf5 import dataset_names, has_dataset, open_hdf5, read_rows
from region_features.formats.pickles import load_restricted
from region_features.records.failure import Failure
from region_features.records.region_record import RegionRecord
from region_features.sources.base import UNKNOWN, Place, Source, match_place, value_of

HDF5_START = b"\x89HDF\r\n\x1a\n"
_FEATURES, _BOXES, _PROBABILITIES = "_features", "_boxes", "_cls_prob"
_IMAGE_FEATURES, _PLACES = "image_features", "pos_boxes"
_PLACE = re.compile(r"row=(\d{1,18})&key=(.*)", re.DOTALL)


def rows_path(path: str) -> str:
    """Return where the pickle is that says of which image a row of `train36.hdf5` is."""
    return path.rpartition(".")[0] + "_imgid2idx.pkl"


class _Hdf5Source(Source):
    @cached_property
    def _file(self) -> Any:
        return open_hdf5(self.path)

    def _dataset(self, name: str, rows: int | slice | None = None) -> NDArray[Any]:
        return read_rows(self._file, name, rows)


class M2Source(_Hdf5Source):
    """`coco_detections.hdf5`: datasets `ID_features`, `ID_boxes` and `ID_cls_prob` an image."""

    kind = "m2"
    sizes = UNKNOWN

    @property
    def default_set(self) -> str:
        """The start of the file's name."""
        return os.path.basename(self.path).rpartition(".")[0].removesuffix("_detections") or "images"

    def places(self) -> Iterator[Place | Failure]:
        """Read the names of the datasets."""
        for name in dataset_names(self._file):
            if name.endswith(_FEATURES):
                img_id = name.removesuffix(_FEATURES)
                yield Place(img_id, f"key={img_id}")

    def read(self, place: str) -> RegionRecord:
        """Read the datasets of one image."""
        img_id = value_of(place, "key", self.path)
        arrays = {"features": self._dataset(img_id + _FEATURES), "boxes": self._dataset(img_id + _BOXES)}
        if has_dataset(self._file, img_id + _PROBABILITIES):
            arrays["cls_prob"] = self._dataset(img_id + _PROBABILITIES)
        return record_of(img_id, UNKNOWN_SIZE, arrays, f"{self.path}, image {img_id}")


class ButdVqaSource(_Hdf5Source):
    """`train36.hdf5` with `train36_imgid2idx.pkl` beside it; also adaptive ones, whose `pos_boxes` say which rows.

    An image's size follows from its boxes in pixels and relative to it.
    """

    kind = "butd-vqa"

    @property
    def default_set(self) -> str:
        """The start of the file's name."""
        return os.path.basename(self.path).rpartition(".")[0].removesuffix("36") or "images"

    @cached_property
    def _rows(self) -> Mapping[Any, Any]:
        path = rows_path(self.path)
        if not os.path.exists(path):
            raise ValueError(f"{self.path}: expected {path} beside it, which says of which image a row is; found none")
        return load_restricted(Path(path).read_bytes(), dict, "a pickled dict of rows", path)

    def places(self) -> Iterator[Place | Failure]:
        """Read which image has which row."""
        for img_id, row in self._rows.items():
            place = f"row={row}&key={img_id}"
            if type(img_id) is int and img_id >= 0 and type(row) is int and row >= 0:
                yield Place(str(img_id), place)
            else:
                yield self.failure(place, f"{self.path}: expected whole numbers of images and rows, got {place}")

    def read(self, place: str) -> RegionRecord:
        """Read one row of each dataset."""
        found = match_place(_PLACE, place, self.path, "row=..&key=.., the place of an image in such files")
        row, img_id = int(found[1]), found[2]
        where = f"{self.path}, row {row}, image {img_id}"
        rows: int | slice = row
        if has_dataset(self._file, _PLACES):
            limits = self._dataset(_PLACES, row)
            if limits.shape != (2,) or limits.dtype.kind not in "iu":
                raise ValueError(f"{where}, dataset {_PLACES}: expected the first and last row, got {limits!r:.80}")
            rows = slice(*limits.tolist())
        boxes, places = self._dataset("image_bb", rows), self._dataset("spatial_features", rows)
        arrays = {"features": self._dataset(_IMAGE_FEATURES, rows), "boxes": boxes}
        return record_of(img_id, _size(boxes, places, where), arrays, where)


def _size(boxes: NDArray[Any], places: NDArray[Any], where: str) -> tuple[int, int]:
    """Return height and width of an image: boxes (K, 4) in pixels, places (K, 6) relative to it."""
    whole = len(boxes) and boxes.shape == (len(boxes), 4) and places.shape == (len(boxes), 6)
    sides = []
    for column in (3, 2):
        row = int(boxes[:, column].argmax()) if whole else -1
        edge, share = (float(array[row, column]) for array in (boxes, places)) if whole else (0.0, 0.0)
        if not (0 < share <= 1.001 and math.isfinite(edge)):
            raise ValueError(
                f"{where}: expected boxes, and their places relative to the image, of which its size follows"
            )
        sides.append(round(edge / share))
    return sides[0], sides[1]


def open_hdf5_source(path: str) -> Source:
    """Tell which program's file it is; ValueError if of none."""
    with open_hdf5(path) as file:
        if has_dataset(file, _IMAGE_FEATURES):
            return ButdVqaSource(path)
        if any(name.endswith(_FEATURES) for name in dataset_names(file)):
            return M2Source(path)
    raise ValueError(f"{path}: expected datasets ID_features, or {_IMAGE_FEATURES}, found neither; no known program's")
