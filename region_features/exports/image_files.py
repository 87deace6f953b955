"""What formats of one file an image have in common: how they are built, and compared with the shards."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from numpy.typing import NDArray

from region_features.background import in_background
from region_features.exports.base import Copy, Export, OnProgress, ShardImage, Sources, Target
from region_features.formats.npz import decode_file
from region_features.records.build_note import BuildNote
from region_features.records.region_record import RegionRecord
from region_features.validation.record import Problem

_MAX_NAME_BYTES = 255  # of a file, on the file systems of Linux
_FILES_AHEAD = 16
_FILES_A_REPORT = 64


class ImageFilesExport(Export):
    """A folder with a file of numpy arrays (npy or npz) an image."""

    @abstractmethod
    def file_name(self, target: Target, img_id: str) -> str:
        """Name an image's file."""

    @abstractmethod
    def encode(self, target: Target, record: RegionRecord) -> bytes:
        """Return a file's content."""

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, Any]:
        """Write the files; two images with one file name are a ValueError."""
        encoded = (
            (shard, example.record.img_id, self.encode(target, example.record))
            for shard, example in sources.examples(sources.paths)
        )
        count = 0
        with closing(in_background(encoded, _FILES_AHEAD)) as images:
            for shard, img_id, data in images:
                name = self.file_name(target, img_id)
                try:
                    with open(os.path.join(folder, name), "xb") as stream:
                        stream.write(data)
                except FileExistsError as error:
                    raise ValueError(
                        f"{shard}, image {img_id}: expected a file {name} of its own, and another image has that name; "
                        f"rename one of the two, or leave {self.name} out of --outputs"
                    ) from error
                count += 1
                if count % _FILES_A_REPORT == 0:
                    on_progress("files_written", count)
        on_progress("files_written", count)
        return {"images": count}

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """List the files."""
        return _ImageFilesCopy(self, target, os.path.join(folder, target.contents))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how many files there are."""
        return f"{row['images']} files"


def refuse_long_id(img_id: str, suffix: str) -> str | None:
    """Return why an image of this id cannot have a file that is named after it, None if it can."""
    longest = _MAX_NAME_BYTES - len(suffix)
    return f"an id of more than {longest} bytes" if len(img_id.encode()) > longest else None


class _ImageFilesCopy(Copy):
    def __init__(self, export: ImageFilesExport, target: Target, folder: str) -> None:
        self._export, self._target, self._folder = export, target, folder
        self._names = set(os.listdir(folder))

    def check(self, record: RegionRecord, shard: str) -> Iterator[Problem]:
        name = self._export.file_name(self._target, record.img_id)
        path = os.path.join(self._folder, name)
        if name not in self._names:
            yield Problem(
                self._export.name, f"{self._folder}: expected {name} for {record.img_id} of {shard}, found none"
            )
            return
        with open(path, "rb") as stream:
            stored = stream.read()
        expected = self._export.encode(self._target, record)
        if stored != expected:
            message = f"{path}: not the image {record.img_id} of {shard}: {_differing(expected, stored, name)}"
            yield Problem(self._export.name, message)

    def check_rest(self, images: Sequence[ShardImage], whole: bool) -> Iterator[Problem]:
        strangers = self._names - {self._export.file_name(self._target, image.img_id) for image in images}
        if strangers:
            message = f"{len(strangers)} files are of no image in the shards, {min(strangers)} for one"
            yield Problem(self._export.name, f"{self._folder}: {message}")


def _differing(expected: bytes, stored: bytes, path: str) -> str:
    """Say in which arrays two files differ."""
    try:
        left, right = decode_file(expected, path), decode_file(stored, path)
    except ValueError as error:
        return str(error)
    names = [name for name in left if name not in right or _content(left[name]) != _content(right[name])]
    return f"{', '.join(names) or 'only bytes between the arrays'} differ"


def _content(array: NDArray[Any]) -> tuple[Any, ...]:
    return array.dtype.str, array.shape, array.tobytes()
