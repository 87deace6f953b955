"""What a report shows of an image: its regions without features, and what was measured of these. K: its boxes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from region_features.formats.example import ImageExample

# Most boxes of a picture; given boxes may be thousands.
MAX_BOXES = 100
_SEED = b"region_features.report"


@dataclass(frozen=True, eq=False)
class ImageView:
    """An image as the page shows it; holds nothing of the message that it was decoded from.

    Attributes:
        shard: path of its shard.
        img_id, filename, split, captions: see ImageExample.
        width, height: in pixels.
        num_boxes: of the record; at most MAX_BOXES of them, the most confident, are here.
        boxes: float32 (K, 4), x1, y1, x2, y2 in pixels, the most confident first.
        objects_id, attrs_id: int64 (K,).
        objects_conf, attrs_conf: float32 (K,).
    """

    shard: str
    img_id: str
    filename: str
    split: str
    captions: tuple[str, ...]
    width: int
    height: int
    num_boxes: int
    boxes: NDArray[np.float32]
    objects_id: NDArray[np.int64]
    objects_conf: NDArray[np.float32]
    attrs_id: NDArray[np.int64]
    attrs_conf: NDArray[np.float32]


def view_of(example: ImageExample, shard: str) -> ImageView:
    """Return what the page shows of an image of a shard."""
    record = example.record
    rows = np.argsort(-record.objects_conf, kind="stable")[:MAX_BOXES]
    return ImageView(
        shard=shard,
        img_id=record.img_id,
        filename=example.filename,
        split=example.split,
        captions=example.captions,
        width=record.img_w,
        height=record.img_h,
        num_boxes=record.num_boxes,
        boxes=record.boxes[rows],
        objects_id=record.objects_id[rows],
        objects_conf=record.objects_conf[rows],
        attrs_id=record.attrs_id[rows],
        attrs_conf=record.attrs_conf[rows],
    )


def sample_rank(set_name: str, img_id: str) -> int:
    """Return a number from 0 to 2**64 - 1 that looks random and is always the same for an image."""
    digest = hashlib.blake2b(f"{set_name}/{img_id}".encode("utf-8", "surrogatepass"), digest_size=8, key=_SEED)
    return int.from_bytes(digest.digest(), "big")
