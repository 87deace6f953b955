"""The data that accompany an image from the join with its annotations to the shard writer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from region_features.records.given_boxes import GivenBoxes
from region_features.records.plan import ImageRef, ShardKey


@dataclass(frozen=True)
class ImageCaptions:
    """An image's row in dataset_coco.json: its COCO id, split, raw sentences and their ids."""

    img_id: str
    coco_id: int
    split: str
    sentences: tuple[str, ...]
    sentence_ids: tuple[int, ...]


class EarlierRecord(NamedTuple):
    """Where an earlier run has the record of an image.

    Attributes:
        shard: path of the shard.
        position: number of the record in it.
        sha256: hex digest of the image that the record is of, where it is to be compared; empty where the image is
            known to be the same.
    """

    shard: str
    position: int
    sha256: str


@dataclass(frozen=True)
class CaptionedImage:
    """An image and what accompanies it.

    Attributes:
        ref: the image.
        captions: None if it has none.
        boxes: given boxes, None in a run without them.
        earlier: a record that may be taken over, None if there is none.
    """

    ref: ImageRef
    captions: ImageCaptions | None
    boxes: GivenBoxes | None = None
    earlier: EarlierRecord | None = None


@dataclass(frozen=True)
class ImageItem:
    """An image and its shard; `sha256` is the hex digest of the image file, empty if the file was not read."""

    shard: ShardKey
    image: CaptionedImage
    sha256: str


@dataclass(frozen=True)
class TakenRecord:
    """The record of an image as an earlier run wrote it: a serialized tf.train.Example."""

    data: bytes
