"""Mean-pooled features of the training images, decoded from their examples without the other fields.

N: training images that have a record; K: boxes of an image; D: feature width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from region_features.formats.example import open_example
from region_features.records.coco import TRAIN_SPLITS
from region_features.records.item import ImageCaptions
from region_features.records.region_record import ARRAY_FIELDS

_FEATURES = next(field for field in ARRAY_FIELDS if field.name == "features")


class MeanFeature(NamedTuple):
    """One image's mean-pooled features, float32 (D,) or None if it has no boxes, and the shard of its record."""

    shard: str
    img_id: str
    mean: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class MeanFeatures:
    """The mean-pooled features of all training images, in the order of train_ann.jsonl."""

    coco_ids: NDArray[Any]  # (N,), int64; text where an image is none of COCO's
    features: NDArray[np.float32]  # (N, D)
    images_left_out: int  # records whose image has no captions, or captions of another split
    captions_left_out: int  # training images that have captions and no record


def train_images(entries: Iterable[tuple[str, ImageCaptions]]) -> dict[str, int | str]:
    """Map the training images' img_ids to `coco_id`, in the order of train_ann.jsonl: all of `train`, then `restval`.

    `entries` are (img_id, captions) in the order of dataset_coco.json.

    Raises:
        ValueError: a coco id has more than 64 bits; the message names its image.
    """
    splits: dict[str, dict[str, int | str]] = {split: {} for split in TRAIN_SPLITS}
    for img_id, captions in entries:
        if captions.split in splits:
            if isinstance(captions.coco_id, int) and abs(captions.coco_id) >= 2**63:
                raise ValueError(f"image {img_id}, field cocoid: expected a 64-bit number, got {captions.coco_id}")
            splits[captions.split][img_id] = captions.coco_id
    return {img_id: coco_id for images in splits.values() for img_id, coco_id in images.items()}


def collect_means(images: Mapping[str, int | str], means: Iterable[MeanFeature]) -> MeanFeatures:
    """Put the means of the training images, see `train_images`, into the order of train_ann.jsonl.

    `means` come in any order. Images without boxes get a zero vector and stay in the pool.

    Raises:
        ValueError: no training image has a record, an image has two records, or features differ in width; the message
            names image and shard.
    """
    rows = {img_id: row for row, img_id in enumerate(images)}
    shards: list[str | None] = [None] * len(rows)
    features: NDArray[np.float32] | None = None
    images_left_out = 0
    for shard, img_id, mean in means:
        row = rows.get(img_id)
        if row is None:
            images_left_out += 1
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
    has_record = np.array([shard is not None for shard in shards], bool)
    if not has_record.any():
        raise ValueError(
            f"expected images of the splits {' and '.join(TRAIN_SPLITS)} in the shards, got none of the {len(rows)} "
            "that the captions name; does the captions file belong to these images?"
        )
    if features is None:
        features = np.zeros((len(rows), 1), np.float32)
    whole_numbers = all(isinstance(coco_id, int) for coco_id in images.values())
    coco_ids = np.array(list(images.values()), np.int64 if whole_numbers else np.str_)
    if not has_record.all():
        coco_ids, features = coco_ids[has_record], features[has_record]
    return MeanFeatures(coco_ids, features, images_left_out, int(np.count_nonzero(~has_record)))


def decode_mean_features(data: bytes, source: str) -> tuple[str, NDArray[np.float32] | None]:
    """Decode an image's id and the mean (D,) of `region/features` over its boxes, None if it has no boxes.

    The mean is in float32, as numpy computes it.

    Raises:
        ValueError: a feature is missing, of the wrong type or shape, or not finite; the message names file, image and
            feature.
    """
    img_id, reader = open_example(data, source)
    features = reader.array(_FEATURES, reader.number("region/count"))  # (K, D), a view of the message's bytes
    if not len(features):
        return img_id, None
    with np.errstate(over="ignore", invalid="ignore"):  # reported below
        mean = features.mean(axis=0)
    if not np.isfinite(mean).all():
        raise reader.error("region/features", "finite numbers", "NaN, infinite or too large ones")
    return img_id, mean
