"""What travels beside an image from the join to the shard writer."""

from __future__ import annotations

from dataclasses import dataclass

from region_features.records.given_boxes import GivenBoxes
from region_features.records.plan import ImageRef, ShardKey


@dataclass(frozen=True)
class ImageCaptions:
    """The captions of one image in dataset_coco.json: its COCO id, split, raw sentences and their ids."""

    img_id: str
    coco_id: int
    split: str
    sentences: tuple[str, ...]
    sentence_ids: tuple[int, ...]


@dataclass(frozen=True)
class CaptionedImage:
    """An image joined with what was given for it: captions, None where it has none, and boxes in a run with --boxes."""

    ref: ImageRef
    captions: ImageCaptions | None
    boxes: GivenBoxes | None = None


@dataclass(frozen=True)
class ImageItem:
    """An image on its way into a shard; `sha256` is that of the encoded file, empty where it was not read."""

    shard: ShardKey
    image: CaptionedImage
    sha256: str
