"""Records of TFRecord shards as tensors, for `tf.data`."""

from __future__ import annotations

from typing import Any

from region_features.records.region_record import ARRAY_FIELDS


def parse_example(serialized: Any) -> dict[str, Any]:
    """Parse one record of a shard: `tf.data.TFRecordDataset(shards).map(parse_example)`.

    Args:
        serialized: string tensor (), a serialized tf.train.Example.

    Returns:
        An item of RegionFeatures as tensors: texts are string (), numbers int64 (), arrays of the same dtype and
        shape; `captions` string and `caption_ids` int64 (captions,).
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
    parsed = tf.io.parse_single_example(serialized, spec)
    item = {
        "img_id": parsed["image/source_id"],
        "img_h": parsed["image/height"],
        "img_w": parsed["image/width"],
        "num_boxes": parsed["region/count"],
    }
    for field in ARRAY_FIELDS:
        dtype = tf.int64 if field.dtype == "<i8" else tf.float32
        values = tf.io.decode_raw(parsed[f"region/{field.name}"], dtype, little_endian=True)
        array = tf.reshape(values, parsed[f"region/{field.name}/shape"])
        item[field.name] = tf.ensure_shape(array, [None] if field.columns is None else [None, field.columns or None])
    item["captions"] = parsed["image/caption"]
    item["caption_ids"] = parsed["image/caption/id"]
    item["split"] = parsed["image/split"]
    return item
