"""Folders with a file an image: OpenVQA's npz, and ImageCaptioning.pytorch's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property

from region_features.formats.openvqa import decode_openvqa
from region_features.records.failure import Failure
from region_features.records.region_record import RegionRecord
from region_features.sources.base import UNKNOWN, Place, Source, value_of
from region_features.sources.lmdb_forms import ATT, boxes_beside, decode_att
from region_features.sources.storage import LOCAL, Storage

NPZ = ".npz"
# OpenVQA's loaders name the file after the image's, with its suffix.
_IMAGE_SUFFIX = re.compile(r"\.(jpe?g|png|bmp|gif|webp|tiff?)$", re.IGNORECASE)


class _FolderSource(Source):
    own_files = True

    def __init__(self, path: str, names: Sequence[str] | None = None, storage: Storage = LOCAL) -> None:
        super().__init__(path)
        self._names = names
        self._storage = storage

    def files(self, place: str) -> tuple[str, ...]:
        """Return the path of the image's file."""
        return (os.path.join(self.path, value_of(place, "file", self.path)),)

    def places(self) -> Iterator[Place | Failure]:
        """List the files."""
        chosen = None if self._names is None else set(self._names)
        for entry in self._storage.entries(self.path):
            if entry.name.endswith(NPZ) and (chosen is None or entry.name in chosen):
                img_id = _IMAGE_SUFFIX.sub("", entry.name.removesuffix(NPZ))
                yield Place(img_id, f"file={entry.name}", entry.size)

    def _read(self, place: str) -> tuple[str, bytes]:
        """Return an image's id and the content of its file."""
        name = value_of(place, "file", self.path)
        if os.path.basename(name) != name or "\0" in name:
            raise ValueError(f"{self.path}#{place}: expected the name of a file in the folder")
        return _IMAGE_SUFFIX.sub("", name.removesuffix(NPZ)), self._content(os.path.join(self.path, name))

    def _content(self, path: str) -> bytes:
        with self._storage.open(path) as stream:
            return stream.read()


class OpenVqaSource(_FolderSource):
    """A folder of `COCO_val2014_000000000042.jpg.npz` and so on."""

    kind = "openvqa"

    @property
    def default_set(self) -> str:
        """The folder's name."""
        return os.path.basename(os.path.abspath(self.path)) or "images"

    def read(self, place: str) -> RegionRecord:
        """Read one file."""
        img_id, data = self._read(place)
        return decode_openvqa(data, img_id, f"{self.path}#{place}")


class ImageCaptioningSource(_FolderSource):
    """`cocobu_att/42.npz` and so on, with the boxes in `cocobu_box/42.npy`."""

    kind = "imagecaptioning"
    sizes = UNKNOWN

    @property
    def default_set(self) -> str:
        """The start of the folder's name."""
        return os.path.basename(os.path.abspath(self.path)).removesuffix(ATT).removesuffix("bu") or "images"

    def files(self, place: str) -> tuple[str, ...]:
        """Return the paths of the image's features and boxes."""
        name = value_of(place, "file", self.path)
        return (*super().files(place), self._boxes_of(_IMAGE_SUFFIX.sub("", name.removesuffix(NPZ))))

    def read(self, place: str) -> RegionRecord:
        """Read the two files of an image."""
        img_id, data = self._read(place)
        return decode_att(data, self._content(self._boxes_of(img_id)), img_id, f"{self.path}#{place}")

    def _boxes_of(self, img_id: str) -> str:
        return os.path.join(self._boxes, f"{img_id}.npy")

    @cached_property
    def _boxes(self) -> str:
        return boxes_beside(self.path, self._storage.entry)
