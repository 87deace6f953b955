"""The mean-pooled features of the training images, read from their examples without decoding the rest.

N: training images that have a record; D: feature width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from region_features.formats.example import open_example
from region_features.records.item import ImageCaptions
from region_features.records.region_record import ARRAY_FIELDS

_FEATURES = next(field for field in ARRAY_FIELDS if field.name == "features")
# The splits that train_ann.jsonl holds, in its order.
_TRAIN_SPLITS = ("train", "restval")


class MeanFeature(NamedTuple):
    """One image's mean-pooled features, float32 (D,), None where it has no boxes, and the shard that holds it."""

    shard: str
    img_id: str
    mean: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class MeanFeatures:
    """The training images that have a record, in caption order.

    Attributes:
        coco_ids: int64 (N,).
        features: float32 (N, D).
        images_left_out: records of images without captions, or with those of another split.
        captions_left_out: training images with captions that have no record.
    """

    coco_ids: NDArray[np.int64]
    features: NDArray[np.float32]
    images_left_out: int
    captions_left_out: int


def train_images(entries: Iterable[tuple[str, ImageCaptions]]) -> dict[str, int]:
    """img_id -> coco id of the training images, in the order of train_ann.jsonl: all of `train`, then `restval`.

    Args:
        entries: (img_id, captions) in the order of dataset_coco.json.

    Raises:
        ValueError: a coco id has more than 64 bits; names its image.
    """
    splits: dict[str, dict[str, int]] = {split: {} for split in _TRAIN_SPLITS}
    for img_id, captions in entries:
        if captions.split in splits:
            if abs(captions.coco_id) >= 2**63:
                raise ValueError(f"image {img_id}, field cocoid: expected a 64-bit number, got {captions.coco_id}")
            splits[captions.split][img_id] = captions.coco_id
    return {img_id: coco_id for images in splits.values() for img_id, coco_id in images.items()}


def collect_means(images: Mapping[str, int], means: Iterable[MeanFeature]) -> MeanFeatures:
    """Puts the training images' means in caption order.

    An image without boxes gets zeros: it stays in the pool, near others of its kind only.

    Args:
        images: see `train_images`.
        means: those of every record, in any order.

    Raises:
        ValueError: no training image has a record, one has two, or their features differ in width; names image and
            shard.
    """
    rows = {img_id: row for row, img_id in enumerate(images)}
    shards: list[str | None] = [None] * len(rows)
    features: NDArray[np.float32] | None = None
    left_out = 0
    for shard, img_id, mean in means:
        row = rows.get(img_id)
        if row is None:
            left_out += 1
            continue
        if shards[row] is not None:
            raise ValueError(
                f"expected one record an image: image {img_id} is in {shards[row]} and in {shard}; rename or leave out "
                "one of the two images"
            )
        shards[row] = shard
        if mean is None:
            continue
        if features is None:
            features = np.zeros((len(rows), len(mean)), np.float32)
        if len(mean) != features.shape[1]:
            raise ValueError(
                f"{shard}, image {img_id}, feature region/features: expected {features.shape[1]} columns as in the "
                f"images before it, got {len(mean)}; are the shards of one network?"
            )
        features[row] = mean
    there = np.array([shard is not None for shard in shards], bool)
    if not there.any():
        raise ValueError(
            f"expected images of the splits {' and '.join(_TRAIN_SPLITS)} in the shards, got none of the {len(rows)} "
            "that the captions name; does the captions file belong to these images?"
        )
    if features is None:
        features = np.zeros((len(rows), 1), np.float32)
    coco_ids = np.fromiter(images.values(), np.int64, len(rows))
    if not there.all():
        coco_ids, features = coco_ids[there], features[there]
    return MeanFeatures(coco_ids, features, left_out, int(np.count_nonzero(~there)))


def decode_mean_features(data: bytes, source: str) -> tuple[str, NDArray[np.float32] | None]:
    """Reads an image's id and the mean over its boxes of `region/features`.

    The mean is that of numpy's `features.mean(axis=0)` in float32.

    Args:
        data: the serialized example.
        source: the file's name, for messages.

    Returns:
        The img_id, and float32 (D,), or None for an image without boxes.

    Raises:
        ValueError: a feature is missing, has not the type or shape it must have, or is not finite; names file, image
            and feature.
    """
    img_id, reader = open_example(data, source)
    boxes = reader.array(_FEATURES, reader.number("region/count"))  # (K, D), a view of the message's bytes
    if not len(boxes):
        return img_id, None
    with np.errstate(over="ignore", invalid="ignore"):  # told below
        mean = boxes.mean(axis=0)
    if not np.isfinite(mean).all():
        raise reader.error("region/features", "finite numbers", "NaN, infinite or too large ones")
    return img_id, mean
