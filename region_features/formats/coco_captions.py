"""COCO's own captions, `captions_train2014.json` and its like: a list of images and one of annotations.

https://cocodataset.org/#format-data
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import groupby
from operator import itemgetter

from region_features.formats.caption_fields import number_field, stem_field, text_field
from region_features.formats.json_stream import iter_lists
from region_features.records.coco import split_of_names
from region_features.records.failure import Failure
from region_features.records.item import ImageCaptions

_IMAGES, _ANNOTATIONS = "images", "annotations"
_SCHEMA = """
    PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;
    CREATE TABLE images (id INTEGER PRIMARY KEY, place INTEGER, img_id TEXT UNIQUE);
    CREATE TABLE annotations (place INTEGER, image_id INTEGER, id INTEGER, caption TEXT);
    BEGIN;
"""


def read_coco_captions(read: Callable[[int], bytes], source: str) -> Iterator[ImageCaptions | Failure]:
    """Read captions image by image, in the order of `images`, those of an image in the order of `annotations`.

    The two lists are joined on disk, so that memory stays flat. The split is the one that the file's name tells, then
    that of the image; images without captions are left out. The failures come first; the rest is as
    `read_caption_file` says.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as database:
        database.executescript(_SCHEMA)
        yield from _store(read, source, database)
        database.execute("CREATE INDEX by_image ON annotations (image_id)")
        strays = "SELECT place, image_id FROM annotations WHERE image_id NOT IN (SELECT id FROM images) ORDER BY place"
        for place, image_id in database.execute(strays):
            yield _failure(source, _ANNOTATIONS, place, f"field image_id: expected one of the images', got {image_id}")
        joined = database.execute(
            "SELECT i.img_id, i.id, a.id, a.caption FROM images i JOIN annotations a ON a.image_id = i.id "
            "ORDER BY i.place, a.place"
        )
        for (img_id, image_id), rows in groupby(joined, key=itemgetter(0, 1)):
            ids, captions = zip(*(row[2:] for row in rows), strict=True)
            split = split_of_names(os.path.basename(source), img_id)
            yield ImageCaptions(img_id, image_id, split, captions, ids)


def _store(read: Callable[[int], bytes], source: str, database: sqlite3.Connection) -> Iterator[Failure]:
    """Put both lists into the database; yield a failure for each item that does not fit."""
    places = dict.fromkeys((_IMAGES, _ANNOTATIONS), -1)
    try:
        for field, item in iter_lists(read, (_IMAGES, _ANNOTATIONS)):
            places[field] = place = places[field] + 1
            try:
                if field == _IMAGES:
                    image = (number_field(item, "id"), place, stem_field(item, "file_name"))
                    if not database.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", image).rowcount:
                        raise ValueError("its id or file_name appears a second time")
                else:
                    row = (
                        place,
                        number_field(item, "image_id"),
                        number_field(item, "id"),
                        text_field(item, "caption"),
                    )
                    database.execute("INSERT INTO annotations VALUES (?, ?, ?, ?)", row)
            except ValueError as error:
                yield _failure(source, field, place, str(error))
    except ValueError as error:
        raise ValueError(
            f"{source}: expected COCO's captions, an object with lists 'images' and 'annotations', got: {error}"
        ) from error


def _failure(source: str, field: str, place: int, reason: str) -> Failure:
    return Failure(source, "", "captions", f"{source}, {field}[{place}]: {reason}")
