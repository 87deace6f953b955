"""The data that accompany an image from the join with its annotations to the shard writer."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class CaptionedImage:
    """An image with its captions, None if it has none, and its given boxes, None in a run without them."""

    ref: ImageRef
    captions: ImageCaptions | None
    boxes: GivenBoxes | None = None


@dataclass(frozen=True)
class ImageItem:
    """An image and its shard; `sha256` is the hex digest of the image file, empty if the file was not read."""

    shard: ShardKey
    image: CaptionedImage
    sha256: str
