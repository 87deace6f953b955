"""Captions as JSON lines: `{"img_id": STEM, "sentences": [...]}`, and `split` where it is not the file's."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from region_features.formats.caption_fields import check_split, text_field, texts_field
from region_features.records.coco import caption_id, split_of_names
from region_features.records.failure import Failure
from region_features.records.item import ImageCaptions
from region_features.records.json_text import parse_json

IMG_ID = "img_id"
_CHUNK = 1 << 20
_LONGEST = 1 << 26  # bytes of a line: a damaged file must not be taken into memory as one


def read_caption_lines(read: Callable[[int], bytes], source: str) -> Iterator[ImageCaptions | Failure]:
    """Read captions line by line; empty lines are skipped.

    A line's `split` is one of Karpathy's; where it has none, the file's name tells it, then that of the image, as
    `val_captions.jsonl`, else it is `train`. Sentences are numbered through the file, from 0. The rest is as
    `read_caption_file` says; a line of more than 64 MB is a ValueError.
    """
    sentences = 0
    with closing(sqlite3.connect("", isolation_level=None)) as seen:  # on disk: memory stays flat
        seen.executescript("PRAGMA journal_mode=OFF; CREATE TABLE ids (img_id TEXT PRIMARY KEY) WITHOUT ROWID; BEGIN;")
        for number, line in enumerate(read_lines(read, source), start=1):
            if not line.strip():
                continue
            img_id = ""
            try:
                row = parse_json(line)
                img_id = text_field(row, IMG_ID)
                image = _captions(row, img_id, os.path.basename(source), sentences)
                if not seen.execute("INSERT OR IGNORE INTO ids VALUES (?)", (img_id,)).rowcount:
                    raise ValueError("img_id appears a second time; put all sentences of an image into one line")
            except ValueError as error:
                yield Failure(source, img_id, "captions", f"{source}, line {number}: {error}")
            else:
                sentences += len(image.sentences)
                yield image


def begins_with_a_line(head: bytes) -> bool:
    """Return whether the first line of a file is a JSON object of an image."""
    line = head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0]
    try:
        row = parse_json(line)
    except ValueError:
        return False
    return isinstance(row, dict) and IMG_ID in row


def read_lines(read: Callable[[int], bytes], source: str) -> Iterator[bytes]:
    """Yield the lines of a file without their ends; ValueError for one of more than 64 MB."""
    rest = b""
    while data := read(_CHUNK):
        *whole, rest = (rest + data).split(b"\n")
        yield from whole
        if len(rest) > _LONGEST:
            raise ValueError(f"{source}: expected lines of at most {_LONGEST} bytes; is it a file of JSON lines?")
    if rest:
        yield rest


def _captions(row: dict[str, Any], img_id: str, name: str, first_id: int) -> ImageCaptions:
    if not img_id:
        raise ValueError(f"field {IMG_ID}: expected the stem of an image's file, got empty text")
    sentences = texts_field(row, "sentences")
    split = check_split(row.get("split") or split_of_names(name, img_id))
    own_id = caption_id(img_id)
    ids = tuple(range(first_id, first_id + len(sentences)))
    return ImageCaptions(
        img_id, own_id, split, tuple(sentences), ids, f"{img_id}.jpg" if isinstance(own_id, str) else ""
    )
