"""The data that accompany an image from the join with its annotations to the shard writer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from region_features.records.given_boxes import GivenBoxes
from region_features.records.plan import ImageRef, ShardKey


@dataclass(frozen=True)
class ImageCaptions:
    """What a captions file says of an image.

    Attributes:
        img_id: file stem of the image.
        coco_id: COCO's id of it; the file stem where it is no image of COCO.
        split: one of Karpathy's.
        sentences: as they are written.
        sentence_ids: a number for each of them.
        filename: of the image, where it is none of COCO's; else empty.
    """

    img_id: str
    coco_id: int | str
    split: str
    sentences: tuple[str, ...]
    sentence_ids: tuple[int, ...]
    filename: str = ""


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
