"""What every source of records is: the images that its file has, each with its place, and the record at a place."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, NamedTuple

import numpy as np

from region_features.records.failure import IMPORT_STAGE, Failure
from region_features.records.key import lmdb_key
from region_features.records.region_record import RegionRecord

# What a source says of the images' sizes: their pixels, nothing, or only where boxes lie relative to the image.
STORED, UNKNOWN, RELATIVE = "stored", "unknown", "relative"


class Place(NamedTuple):
    """An image of a source.

    Attributes:
        img_id: its id, or the number that the source has in place of it.
        place: where its record is, as `NAME=VALUE`; the part of a URI after `#`.
        num_bytes: about how long its record is there.
    """

    img_id: str
    place: str
    num_bytes: int = -1


class Source(ABC):
    """A file, or a folder that is read as one, with records of images.

    Attributes:
        kind: its format in a word, as `--outputs` has it.
        sizes: what it says of the images' sizes. Records of UNKNOWN ones have the size 0 x 0, those of RELATIVE ones
            1 x 1, and boxes that fit to it.
        own_files: whether each image has files of its own.
        path: of the file or folder.
    """

    kind: ClassVar[str]
    sizes: ClassVar[str] = STORED
    own_files: ClassVar[bool] = False

    def __init__(self, path: str) -> None:
        self.path = path

    def files(self, place: str) -> tuple[str, ...]:
        """Return the paths of the files that hold the record at a place."""
        return (self.path,)

    @property
    def default_set(self) -> str:
        """Name of the image set of ids that do not name one."""
        return os.path.basename(os.path.dirname(os.path.abspath(self.path))) or "images"

    @abstractmethod
    def places(self) -> Iterator[Place | Failure]:
        """Yield each image, or why one cannot be imported; as little as possible is read.

        Raises:
            ImportError: a package of the extra `formats` is missing.
            ValueError: the file as a whole is damaged; names it.
            OSError: it cannot be read.
        """

    @abstractmethod
    def read(self, place: str) -> RegionRecord:
        """Return the record at a place; any number of threads may read.

        Raises:
            ImportError: a package of the extra `formats` is missing.
            ValueError: it is damaged, or not there; names file and place.
            OSError: it cannot be read.
        """

    def keyed_places(self) -> Iterator[tuple[str, str, str] | Failure]:
        """Yield (LMDB key as text, id, place) of each image, or why it has none; errors as `places`."""
        for entry in self.places():
            if isinstance(entry, Failure):
                yield entry
                continue
            try:
                yield lmdb_key(entry.img_id).decode(), entry.img_id, entry.place
            except ValueError as error:
                yield self.failure(entry.place, error, entry.img_id)

    def failure(self, place: str, reason: object, img_id: str = "") -> Failure:
        """Return a failure of stage `import`, for an image at a place of the source, or of the whole source."""
        return Failure(f"{self.path}#{place}" if place else self.path, img_id, IMPORT_STAGE, str(reason))


def with_size(record: RegionRecord, height: int, width: int) -> RegionRecord:
    """Give a record the size of its image in pixels, which its source does not know.

    Boxes of a record of 1 x 1 are relative to the image, and become pixels.
    """
    boxes = record.boxes
    if (record.img_h, record.img_w) == (1, 1):
        boxes = boxes * np.array([width, height, width, height], np.float32)
    return replace(record, img_h=height, img_w=width, boxes=boxes)


def value_of(place: str, name: str, path: str) -> str:
    """Return VALUE of the place `NAME=VALUE`; ValueError for a place of another name."""
    start = f"{name}="
    if not place.startswith(start):
        raise ValueError(f"{path}#{place}: expected {start}..., the place of a record in such a file")
    return place.removeprefix(start)


def match_place(pattern: re.Pattern[str], place: str, path: str, expected: str) -> re.Match[str]:
    """Return the match of a whole place; ValueError for one of another form than `expected`, in words."""
    found = pattern.fullmatch(place)
    if found is None:
        raise ValueError(f"{path}#{place}: expected {expected}")
    return found
