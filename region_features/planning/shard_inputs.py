"""What the workers read of each shard to do: its images with their captions, given boxes and earlier records.

A JSON line an image; a second file says where in the first each shard's lines lie, and which shards are those of an
earlier run as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from region_features.planning.catalog import CatalogRow
from region_features.records.given_boxes import GivenBoxes, no_boxes
from region_features.records.item import CaptionedImage, EarlierRecord, ImageCaptions
from region_features.records.plan import ImageRef, ShardKey


@dataclass(frozen=True)
class ShardEntry:
    """A shard to do.

    Attributes:
        key: which.
        offset, length: of its lines, in bytes.
        copy_of: path of an earlier run's shard that it is a copy of; empty where its images are to be read.
        inputs: `input_digest` of its images, where it is a copy.
    """

    key: ShardKey
    offset: int = 0
    length: int = 0
    copy_of: str = ""
    inputs: str = ""

    def to_line(self) -> bytes:
        """Return the entry as a line of the second file."""
        return (json.dumps([*self.key, self.offset, self.length, self.copy_of, self.inputs]) + "\n").encode()

    @classmethod
    def from_line(cls, line: bytes) -> ShardEntry:
        """Read what `to_line` returned."""
        *key, offset, length, copy_of, inputs = json.loads(line)
        return cls(ShardKey(*key), offset, length, copy_of, inputs)


def encode_image(row: CatalogRow, earlier: EarlierRecord | None, with_boxes: bool) -> bytes:
    """Return the line of an image.

    Args:
        row: the image, with what the catalog holds of it.
        earlier: its record that may be taken over.
        with_boxes: whether boxes are given; an image without them then becomes a failure.
    """
    ref = row.ref
    told = json.dumps(ref)
    boxes = row.boxes or ("false" if with_boxes else "null")
    taken_over = json.dumps(earlier) if earlier else "null"
    return f"[{told}, {row.captions or 'null'}, {boxes}, {taken_over}]\n".encode()


def decode_images(lines: Iterable[bytes]) -> Iterator[CaptionedImage]:
    """Read what `encode_image` returned."""
    for line in lines:
        ref, captions, boxes, earlier = json.loads(line)
        image = ImageRef(*ref)
        yield CaptionedImage(
            image,
            _decode_captions(image.img_id, captions) if captions else None,
            None if boxes is None else _decode_boxes(image.img_id, boxes),
            EarlierRecord(*earlier) if earlier else None,
        )


def _decode_captions(img_id: str, row: list[Any]) -> ImageCaptions:
    coco_id, split, sentences, sentence_ids = row
    return ImageCaptions(img_id, coco_id, split, tuple(sentences), tuple(sentence_ids))


def _decode_boxes(img_id: str, row: Any) -> GivenBoxes:
    if row is False:
        return no_boxes(img_id)
    boxes, problem = row
    return GivenBoxes(img_id, np.array(boxes, np.float32).reshape(-1, 4), problem)
