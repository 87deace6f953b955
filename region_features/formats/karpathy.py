"""Karpathy's captions, dataset_coco.json and dataset_flickr30k.json, and the ids of the 1K retrieval test set."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

from region_features.formats.caption_fields import (
    check_split,
    list_field,
    number_field,
    stem_field,
    text_field,
    value_field,
)
from region_features.formats.json_stream import iter_items
from region_features.records.coco import CAPTIONS_FILE, TEST_SPLIT, caption_id
from region_features.records.failure import Failure
from region_features.records.item import ImageCaptions

_CACHE_KIB = 64 << 10


def read_dataset(read: Callable[[int], bytes], source: str) -> Iterator[ImageCaptions | Failure]:
    """Read dataset_coco.json, or a file of its schema, row by row, in file order.

    Rows without `cocoid`, as all of dataset_flickr30k.json, have the id that `caption_id` gives. The rest is as
    `read_caption_file` says.
    """
    with closing(_Seen()) as seen:
        yield from _images(_rows(read, source), source, seen)


def _images(rows: Iterable[Any], source: str, seen: _Seen) -> Iterator[ImageCaptions | Failure]:
    for number, row in enumerate(rows):
        try:
            image = _parse_row(row)
            seen.add(image, number)
        except ValueError as error:
            filename = str(row.get("filename", "")) if isinstance(row, dict) else ""
            yield Failure(source, filename.rpartition(".")[0], "captions", f"{source}, images[{number}]: {error}")
        else:
            yield image


class _Seen:
    """Names and coco ids of the rows so far, on disk: memory stays flat."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(
            f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-{_CACHE_KIB};"
            "CREATE TABLE seen (img_id TEXT PRIMARY KEY, coco_id UNIQUE, number INTEGER) WITHOUT ROWID; BEGIN;"
        )
        self._cursor = self._database.cursor()

    def add(self, image: ImageCaptions, number: int) -> None:
        """Take the row of an image; ValueError if an earlier one has its name or coco id."""
        execute = self._cursor.execute
        row = image.img_id, image.coco_id, number
        if execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", row).rowcount:
            return
        if execute("SELECT 1 FROM seen WHERE img_id = ?", (image.img_id,)).fetchone():
            raise ValueError("filename appears a second time")
        (first,) = execute("SELECT number FROM seen WHERE coco_id = ?", (image.coco_id,)).fetchone()
        raise ValueError(f"field cocoid: {image.coco_id} is that of images[{first}] as well")

    def close(self) -> None:
        """Delete what was kept."""
        self._database.close()


def _rows(read: Callable[[int], bytes], source: str) -> Iterator[Any]:
    try:
        yield from iter_items(read, "images")
    except ValueError as error:
        raise ValueError(
            f"{source}: expected captions: Karpathy's {CAPTIONS_FILE} with its list 'images', COCO's captions_*.json, "
            f"or JSON lines of img_id and sentences, got: {error}; docs/inputs.md shows each"
        ) from error


def _parse_row(row: Any) -> ImageCaptions:
    img_id = stem_field(row, "filename")
    split, sentences = check_split(value_field(row, "split")), list_field(row, "sentences")
    raw = tuple(text_field(sentence, "raw") for sentence in sentences)
    ids = tuple(number_field(sentence, "sentid") for sentence in sentences)
    coco_id = number_field(row, "cocoid") if "cocoid" in row else caption_id(img_id)
    return ImageCaptions(img_id, coco_id, split, raw, ids, row["filename"] if isinstance(coco_id, str) else "")


def parse_test1k_ids(data: bytes, source: str) -> frozenset[int]:
    """Read the coco ids of the 1K test set, one a line or none; a ValueError names file and line of anything else."""
    ids = set()
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), start=1):
        try:
            ids.update([int(line)] if line.strip() else [])
        except ValueError as error:
            raise ValueError(f"{source}, line {number}: expected one coco id, got {line!r}") from error
    return frozenset(ids)


def check_test1k_ids(ids: frozenset[int], test_ids: Iterable[int | str], source: str) -> None:
    """Raise a ValueError for ids that are not among those of split `test`, with their number and the smallest."""
    strangers = ids.difference(test_ids)
    if strangers:
        raise ValueError(
            f"{source}: expected coco ids of split {TEST_SPLIT}, but {len(strangers)} are not in it, "
            f"{min(strangers)} for one"
        )
