"""The tf.train.Example of an image: the bytes of tensorflow, read back bit for bit, damage named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from region_features.formats.example import ImageExample, decode_example, encode_example, retell
from tests.samples.records import assert_same, make_example, make_record


def parsed(data: bytes) -> Any:
    import tensorflow as tf

    return tf.train.Example.FromString(data)


@pytest.mark.parametrize("boxes", [0, 1, 36, 100])
@pytest.mark.parametrize("captions", [(), ("one",), ("Ein Hund läuft. ", "", "犬")])
def test_round_trip(boxes: int, captions: tuple[str, ...]) -> None:
    example = make_example(make_record("COCO_val2014_000000000042", boxes), captions)
    back = decode_example(encode_example(example), "x")
    assert_same(back.record, example.record)
    for name in ("filename", "sha256", "captions", "caption_ids", "split"):
        assert getattr(back, name) == getattr(example, name)


def test_nan_infinity_and_negative_zero_come_back_bit_for_bit() -> None:
    record = make_record("a")
    features = np.array([[np.nan, -0.0, np.inf, 1e-45]] * 3, dtype=np.float32)
    features.view(np.uint32)[0, 0] |= 1  # a NaN with a payload
    record = dataclasses.replace(record, features=features)
    assert_same(decode_example(encode_example(make_example(record)), "x").record, record)


def test_strided_arrays_are_written_in_c_order() -> None:
    record = make_record("a")
    turned = dataclasses.replace(record, features=np.asfortranarray(record.features))
    assert encode_example(make_example(turned)) == encode_example(make_example(record))


def test_decoded_arrays_are_read_only_views_of_the_message() -> None:
    record = decode_example(encode_example(make_example(make_record("a"))), "x").record
    assert record.features.base is not None
    assert not record.features.flags.writeable


@pytest.mark.parametrize("boxes", [0, 36])
@pytest.mark.parametrize("captions", [(), ("one", "two")])
def test_tensorflow_serializes_to_the_same_bytes(boxes: int, captions: tuple[str, ...]) -> None:
    data = encode_example(make_example(make_record("COCO_val2014_000000000042", boxes), captions))
    assert parsed(data).SerializeToString(deterministic=True) == data


def test_an_example_holds_exactly_the_documented_features() -> None:
    record = make_record("COCO_val2014_000000000042", boxes=2)
    features = parsed(encode_example(make_example(record))).features.feature
    stored = {name: list(getattr(feature, feature.WhichOneof("kind")).value) for name, feature in features.items()}
    x1, y1, x2, y2 = record.boxes.T
    expected: dict[str, Any] = {
        "image/source_id": [b"COCO_val2014_000000000042"],
        "image/filename": [b"COCO_val2014_000000000042.jpg"],
        "image/key/sha256": [b"ab" * 32],
        "image/height": [480],
        "image/width": [640],
        "image/caption": ["Ein Hund läuft. ".encode(), b"a dog"],
        "image/caption/id": [770337, 770338],
        "image/split": [b"val"],
        "image/detection/bbox/xmin": (x1 / 640).tolist(),
        "image/detection/bbox/ymin": (y1 / 480).tolist(),
        "image/detection/bbox/xmax": (x2 / 640).tolist(),
        "image/detection/bbox/ymax": (y2 / 480).tolist(),
        "image/detection/label": (record.objects_id + 1).tolist(),
        "image/detection/score": record.objects_conf.tolist(),
        "region/count": [2],
    }
    for name, dtype, shape in (
        ("boxes", b"float32", [2, 4]),
        ("features", b"float32", [2, 16]),
        ("cls_prob", b"float32", [2, 7]),
        ("attrs", b"float32", [2, 5]),
        ("objects_id", b"int64", [2]),
        ("objects_conf", b"float32", [2]),
        ("attrs_id", b"int64", [2]),
        ("attrs_conf", b"float32", [2]),
    ):
        expected[f"region/{name}"] = [getattr(record, name).tobytes()]
        expected[f"region/{name}/dtype"] = [dtype]
        expected[f"region/{name}/shape"] = shape
    assert stored == expected


@pytest.mark.parametrize("boxes", [0, 2])
@pytest.mark.parametrize("captions", [(), ("one", "two")])
def test_tensorflow_parses_all_images_with_one_feature_spec(boxes: int, captions: tuple[str, ...]) -> None:
    import tensorflow as tf

    record = make_record("a", boxes)
    fields = tf.io.parse_single_example(
        encode_example(make_example(record, captions)),
        {
            "image/caption": tf.io.VarLenFeature(tf.string),
            "image/caption/id": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
            "image/split": tf.io.FixedLenFeature([], tf.string, default_value=""),
            "image/detection/bbox/xmin": tf.io.VarLenFeature(tf.float32),
            "image/detection/label": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
            "region/features": tf.io.FixedLenFeature([], tf.string),
            "region/features/shape": tf.io.FixedLenFeature([2], tf.int64),
        },
    )
    assert [text.decode() for text in fields["image/caption"].values.numpy()] == list(captions)
    assert len(fields["image/caption/id"]) == len(captions)
    assert fields["image/split"].numpy() == (b"val" if captions else b"")
    assert len(fields["image/detection/bbox/xmin"].values) == len(fields["image/detection/label"]) == boxes
    features = tf.reshape(tf.io.decode_raw(fields["region/features"], tf.float32), fields["region/features/shape"])
    assert features.numpy().tobytes() == record.features.tobytes()


def set_bytes(name: str, value: bytes) -> Callable[[Any], None]:
    def change(features: Any) -> None:
        features[name].bytes_list.value[:] = [value]

    return change


def set_numbers(name: str, *values: int) -> Callable[[Any], None]:
    def change(features: Any) -> None:
        features[name].int64_list.value[:] = values

    return change


def remove(name: str) -> Callable[[Any], None]:
    def change(features: Any) -> None:
        del features[name]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("image/source_id"), "^s.tfrecord, feature image/source_id: expected a bytes_list, got nothing"),
        (remove("region/attrs"), "^s.tfrecord, image a, feature region/attrs: expected a bytes_list, got nothing"),
        (remove("region/count"), "feature region/count: expected a int64_list, got nothing"),
        (remove("region/boxes/dtype"), "feature region/boxes/dtype: expected a bytes_list, got nothing"),
        (remove("image/detection/score"), "feature image/detection/score: expected a float_list, got nothing"),
        (remove("image/caption/id"), "feature image/caption/id: expected a int64_list, got nothing"),
        (remove("image/caption"), "feature image/caption: expected a bytes_list, got nothing"),
        (set_bytes("image/height", b"480"), "feature image/height: expected a int64_list, got bytes_list"),
        (set_numbers("image/height", 1, 2), "feature image/height: expected 1 values, got 2"),
        (set_numbers("image/height", -1), "feature image/height: expected a number from 0, got -1"),
        (set_numbers("image/detection/label", 1), "feature image/detection/label: expected 3 values, got 1"),
        (set_numbers("image/caption/id", 1), "feature image/caption/id: expected 2 values, got 1"),
        (set_numbers("region/count", 2), "bbox/xmin: expected 2 values, got 3"),
        (set_bytes("region/attrs_id/dtype", b"int32"), "region/attrs_id/dtype: expected int64, got int32"),
        (set_numbers("region/attrs_id/shape", 3, 1), "region/attrs_id/shape: expected 1 values, got 2"),
        (set_numbers("region/attrs_id/shape", 4), r"region/attrs_id/shape: expected \(3,\), got \(4,\)"),
        (set_numbers("region/boxes/shape", 3, 5), r"region/boxes/shape: expected \(3, 4\), got \(3, 5\)"),
        (set_numbers("region/features/shape", 3, -16), r"expected \(3, 'any'\), got \(3, -16\)"),
        (set_numbers("region/features/shape", 3, 2**62), "region/features: expected .* bytes for shape .*, got 192 b"),
        (set_bytes("region/features", b"\0" * 191), r"expected 192 bytes for shape \(3, 16\), got 191 bytes"),
        (set_bytes("image/filename", b"a\xff"), "feature image/filename: expected UTF-8 text, got the byte 0xff"),
    ],
)
def test_wrong_features_are_named(change: Callable[[Any], None], message: str) -> None:
    example = parsed(encode_example(make_example(make_record("a"))))
    change(example.features.feature)
    with pytest.raises(ValueError, match=message):
        decode_example(example.SerializeToString(), "s.tfrecord")


def test_other_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^s.tfrecord: expected a tf.train.Example, got 3 other bytes"):
        decode_example(b"\xff\xff\xff", "s.tfrecord")


def test_invalid_unicode_missing_size_and_unpaired_captions_are_refused() -> None:
    record = make_record("a")
    with pytest.raises(ValueError, match=r"image 'a', feature image/caption: expected valid Unicode, got '\\ud83d'"):
        encode_example(make_example(record, ("\ud83d",)))
    with pytest.raises(ValueError, match="image a: expected a height and width of at least 1, got 0 and 640"):
        encode_example(make_example(dataclasses.replace(record, img_h=0)))
    with pytest.raises(ValueError, match="image a: expected one caption id a caption, got 1 captions and 0 ids"):
        ImageExample(record, "a.jpg", "ab", ("one",), (), "")


@pytest.mark.parametrize("told", [(("a café", "b"), (7, 8), "test"), ((), (), ""), ((), (), "val")])
@pytest.mark.parametrize("before", [(), ("one",)])
def test_an_example_is_given_other_captions_as_if_it_were_encoded_with_them(
    before: tuple[str, ...], told: tuple[tuple[str, ...], tuple[int, ...], str]
) -> None:
    captions, caption_ids, split = told
    example = make_example(make_record("a", 3), before)
    expected = dataclasses.replace(example, captions=captions, caption_ids=caption_ids, split=split)
    result = retell(encode_example(example), "shard", captions, caption_ids, split)
    assert result == (example.record.img_id, example.sha256, encode_example(expected))


@pytest.mark.parametrize("data", [b"\xff", b""])
def test_no_captions_are_given_to_other_bytes(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^shard"):
        retell(data, "shard", (), (), "")
