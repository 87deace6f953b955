"""The shards' examples as tensors, for `tf.data`."""

from __future__ import annotations

from typing import Any

from region_features.records.region_record import ARRAY_FIELDS


def parse_example(serialized: Any) -> dict[str, Any]:
    """Parses one record of a shard: `tf.data.TFRecordDataset(shards).map(parse_example)`.

    Args:
        serialized: string tensor (), a serialized tf.train.Example.

    Returns:
        What an item of RegionFeatures holds, as tensors: `img_id` string (); `img_h`, `img_w`, `num_boxes` int64 ();
        `objects_id`, `attrs_id` int64 (K,); `objects_conf`, `attrs_conf` float32 (K,); `boxes` float32 (K, 4);
        `features`, `cls_prob`, `attrs` float32 (K, D), (K, C), (K, A); `captions` string and `caption_ids` int64, as
        many; `split` string (), empty where the image has no captions.
    """
    import tensorflow as tf

    scalar, text = tf.io.FixedLenFeature([], tf.int64), tf.io.FixedLenFeature([], tf.string)
    spec = {
        "image/source_id": text,
        "image/height": scalar,
        "image/width": scalar,
        "region/count": scalar,
        "image/caption": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
        "image/caption/id": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
        "image/split": tf.io.FixedLenFeature([], tf.string, default_value=""),
    }
    for field in ARRAY_FIELDS:
        spec[f"region/{field.name}"] = text
        spec[f"region/{field.name}/shape"] = tf.io.FixedLenFeature([1 if field.columns is None else 2], tf.int64)
    found = tf.io.parse_single_example(serialized, spec)
    item = {
        "img_id": found["image/source_id"],
        "img_h": found["image/height"],
        "img_w": found["image/width"],
        "num_boxes": found["region/count"],
    }
    for field in ARRAY_FIELDS:
        dtype = tf.int64 if field.dtype == "<i8" else tf.float32
        values = tf.io.decode_raw(found[f"region/{field.name}"], dtype, little_endian=True)
        array = tf.reshape(values, found[f"region/{field.name}/shape"])
        item[field.name] = tf.ensure_shape(array, [None] if field.columns is None else [None, field.columns or None])
    item["captions"] = found["image/caption"]
    item["caption_ids"] = found["image/caption/id"]
    item["split"] = found["image/split"]
    return item
