"""Images are cut into shards; a rerun compares its plan with the one that it finds."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest

from region_features.planning.cut import IMAGES_PER_SHARD, kept_cut
from region_features.records.coco import lmdb_name
from region_features.records.plan import (
    ImageRef,
    Plan,
    ShardKey,
    describe_change,
    input_digest,
    parse_shard_name,
)
from tests.samples.plans import assign_shards, catalog_of, decode_plan, encode_plan


def ref(img_id: str, set_name: str = "photos", size: int = 10) -> ImageRef:
    return ImageRef(set_name, img_id, f"{set_name}/{img_id}.jpg", size)


def refs(count: int, set_name: str = "photos") -> list[ImageRef]:
    return [ref(f"COCO_{set_name}_{number:012d}", set_name) for number in range(count)]


def plan_of(images: list[ImageRef], num_shards: int | None = None, **settings: object) -> Plan:
    return Plan({"min_boxes": 36, **settings}, assign_shards(images, num_shards))


def test_shards_are_contiguous_ranges_of_the_keys_byte_order() -> None:
    shards = assign_shards([ref(name) for name in ("b_9", "a_10", "z_100", "x_0", "é", "Z")], 3)
    keys = [[image.key for image in images] for images in shards.values()]
    assert keys == [[b"0", b"10"], [b"100", b"9"], [b"Z", "é".encode()]]


@pytest.mark.parametrize("total", [1, 2, 7, 255, 256, 257, 512, 513, 1000])
@pytest.mark.parametrize("num_shards", [None, 1, 2, 7, 300])
def test_every_image_lies_in_one_shard_and_shards_are_of_one_size(total: int, num_shards: int | None) -> None:
    images = refs(total)
    shards = assign_shards(images, num_shards)
    sizes = [len(part) for part in shards.values()]
    assert len(shards) == min(num_shards or -(-total // IMAGES_PER_SHARD), total)
    assert sum(sizes) == total and max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
    assert sorted(image.img_id for part in shards.values() for image in part) == [image.img_id for image in images]
    for number, (key, part) in enumerate(shards.items()):
        assert key == ShardKey("photos", number, len(shards), len(part))


def test_default_shard_holds_at_most_256_images() -> None:
    assert [len(part) for part in assign_shards(refs(257), None).values()] == [128, 129]
    assert len(assign_shards(refs(256), None)) == 1


@pytest.mark.parametrize(
    ("keys", "sizes"),
    [
        (range(10, 20), [5, 5]),  # as it was
        ([1, *range(10, 20), 21, 22], [6, 7]),  # the ends grow
        (range(15, 20), [5]),  # the first is gone
        (range(10, 14), [4]),
        ([], []),
        (range(15, 15 + 512), [512]),  # within twice the usual size
        (range(15, 15 + 513), [171, 171, 171]),
    ],
)
def test_new_images_go_to_the_shards_in_whose_ranges_they_lie(keys: Sequence[int], sizes: list[int]) -> None:
    assert kept_cut([b"%06d" % key for key in keys], [b"000010", b"000015"], [5, 5]) == sizes


def test_a_shard_of_many_images_is_cut_anew_when_it_is_twice_as_large() -> None:
    assert kept_cut([b"%06d" % key for key in range(2000)], [b"000000"], [1000]) == [2000]
    assert kept_cut([b"%06d" % key for key in range(2001)], [b"000000"], [1000]) == [667, 667, 667]


def test_shards_do_not_depend_on_the_order_of_the_input() -> None:
    images = refs(20, "train2014") + refs(9, "val2014")
    shuffled = random.Random(5).sample(images, len(images))
    assert list(assign_shards(shuffled, 3).items()) == list(assign_shards(images, 3).items())


def test_each_set_has_shards_of_its_own() -> None:
    shards = assign_shards([*refs(2, "val2014"), *refs(5, "train2014")], 3)
    assert [key.filename for key in shards] == [
        "train2014-00000-of-00003.tfrecord",
        "train2014-00001-of-00003.tfrecord",
        "train2014-00002-of-00003.tfrecord",
        "val2014-00000-of-00002.tfrecord",
        "val2014-00001-of-00002.tfrecord",
    ]
    assert all(image.set_name == key.set_name for key, part in shards.items() for image in part)
    assert plan_of([*refs(2, "val2014"), *refs(5, "train2014")]).num_images == 7


@pytest.mark.parametrize("set_name", ["train2014", "a-00000-of-00001", "new\nline", "50%", "a b.tfrecord"])
@pytest.mark.parametrize(("number", "of"), [(0, 1), (7, 8), (99_999, 100_000), (123_456, 200_000)])
def test_a_shard_name_is_parsed_into_its_parts(set_name: str, number: int, of: int) -> None:
    assert parse_shard_name(ShardKey(set_name, number, of, 3).filename) == (set_name, number, of)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-00000-of-00001.tfrecord",
        "a-0000-of-00001.tfrecord",
        "a-00000-of-00001",
        "a-00000-of-00001.tfrecord.stats.json",
        "a-٠٠٠٠٠-of-00001.tfrecord",
        "a-00000-of-00001xtfrecord",
    ],
)
def test_other_names_are_not_shard_names(name: str) -> None:
    assert parse_shard_name(name) is None


def test_no_images_give_no_shards() -> None:
    assert assign_shards([], None) == {} and assign_shards([], 4) == {}


@pytest.mark.parametrize(
    ("set_name", "name"),
    [("train2014", "trainval"), ("val2014", "trainval"), ("test2015", "test"), ("photos", "photos"), ("Test", "Test")],
)
def test_train_and_val_images_share_one_lmdb_and_other_sets_have_their_own(set_name: str, name: str) -> None:
    assert lmdb_name(set_name) == name


@pytest.mark.parametrize(
    ("first", "second", "key"),
    [
        (ref("7"), ref("007"), "7"),
        (ref("a_7"), ref("b_0007"), "7"),
        (ref("a_0"), ref("a_000"), "0"),
        (ref("COCO_train2014_000000000009", "train2014"), ref("COCO_val2014_000000000009", "val2014"), "9"),
        (ref("x_5", "train2014"), ref("y_5", "trainval"), "5"),
        (ref("x_5", "test2015"), ref("y_5", "test"), "5"),
        (ref("cat"), ref("cat")._replace(uri="elsewhere/photos/cat.jpg"), "cat"),
    ],
)
def test_images_with_one_key_in_one_lmdb_clash(first: ImageRef, second: ImageRef, key: str) -> None:
    assert catalog_of([ref("other"), first, ref("more"), second]).find_clash() == (
        key.encode(),
        *sorted([first.uri, second.uri]),
        1,
    )


def test_equal_keys_of_different_lmdbs_do_not_clash() -> None:
    images = [ref("a_7"), ref("b_7", "train2014"), ref("c_7", "test2015"), ref("d_7", "other"), ref("7a"), ref("٧")]
    assert catalog_of(images).find_clash() is None


def test_every_clash_is_counted() -> None:
    clash = catalog_of([ref("a_1"), ref("b_1"), ref("c_1"), ref("a_2"), ref("b_2")]).find_clash()
    assert clash == (b"1", "photos/a_1.jpg", "photos/c_1.jpg", 3)


@pytest.mark.parametrize("img_id", ["keys", "", "x" * 512])
def test_an_image_that_cannot_have_a_key_is_named(img_id: str) -> None:
    with pytest.raises(ValueError, match=r"photos/.*\.jpg: "):
        catalog_of([ref("fine"), ref(img_id)])


HOSTILE = ["50%", "a b", "käse", "line\u2028break", 'quo"te', "back\\slash", "[1]*?", "new\nline", "emoji😀", "tab\t"]


def test_a_plan_is_decoded_as_it_was_encoded() -> None:
    plan = plan_of([*refs(5, "train2014"), *map(ref, HOSTILE)], 2, weights_sha256=None, conf_threshold=0.1)
    decoded = decode_plan(encode_plan(plan), "plan.jsonl")
    assert decoded.settings == plan.settings
    assert list(decoded.shards.items()) == list(plan.shards.items())
    assert encode_plan(decoded) == encode_plan(plan)


def test_an_empty_plan_is_decoded_as_it_was_encoded() -> None:
    assert decode_plan(encode_plan(Plan({"a": 1}, {})), "plan.jsonl") == Plan({"a": 1}, {})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"not json",
        b"[]",
        b"3",
        b'{"other": {}}',
        b'{"settings": {}}\n{"set": "a"}\n',
        b'{"settings": {}}\n["a"]\n',
        b'{"settings": {}}\n{"set": "a", "shard": 0, "of": 1, "img_id": "x", "uri": "x.jpg", "siz',
        b'{"settings": {}}\n{"set": ["a"], "shard": 0, "of": 1, "img_id": "x", "uri": "x.jpg", "size": 1}\n',
        b'{"settings": ["min_boxes"]}\n',
        b'{"settings": null}\n',
        b'{"settings": ' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_damaged_plan_is_named_with_a_remedy(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^out/plan\.jsonl: expected the plan of an earlier run.*--overwrite"):
        decode_plan(data, "out/plan.jsonl")


@pytest.mark.parametrize(
    ("field", "value"),
    [("set", 3), ("shard", "0"), ("of", True), ("img_id", 7), ("uri", None), ("size", "1"), ("version", 5)],
)
def test_a_row_with_a_field_of_a_wrong_type_is_damage(field: str, value: object) -> None:
    header, row = encode_plan(plan_of(refs(1))).splitlines()
    damaged = json.dumps({**json.loads(row), field: value}).encode()
    with pytest.raises(ValueError, match=rf"^out/plan\.jsonl: .*got something else \({field} that is a "):
        decode_plan(b"\n".join([header, damaged]), "out/plan.jsonl")


def test_a_run_with_the_same_plan_may_resume() -> None:
    plan = plan_of(refs(9), 2)
    assert describe_change(decode_plan(encode_plan(plan), "plan"), plan) is None
    grown = [image._replace(size=99) for image in refs(9)]
    assert describe_change(plan, plan_of(grown, 2)) is None  # changed images are found by the digests of their shards


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (plan_of(refs(3), min_boxes=10), plan_of(refs(3)), "min_boxes was 10, now it is 36"),
        (plan_of(refs(3)), plan_of(refs(3), extra="x"), "extra was the default, now it is x"),
        (plan_of(refs(3)), plan_of(refs(4)), "1 new, 0 gone, photos/COCO_photos_000000000003.jpg"),
        (plan_of(refs(4)), plan_of(refs(3)), "0 new, 1 gone"),
        (plan_of(refs(3, "a")), plan_of(refs(3, "b")), "3 new, 3 gone"),
        (plan_of(refs(4), 2), plan_of(refs(4), 3), "cut into 2 shards, now it would be 3"),
    ],
)
def test_a_change_of_settings_images_or_shards_is_described(old: Plan, new: Plan, words: str) -> None:
    assert words in (describe_change(old, new) or "")


def test_the_input_digest_depends_on_order_ids_uris_and_sizes() -> None:
    images = [ref("a"), ref("b")]
    variants = [
        images,
        images[::-1],
        images[:1],
        [],
        [images[0]._replace(size=11), images[1]],
        [images[0]._replace(img_id="c"), images[1]],
        [images[0]._replace(uri="c.jpg"), images[1]],
        [images[0]._replace(img_id="ab", uri="c"), images[1]],
        [images[0]._replace(img_id="a", uri="bc"), images[1]],
    ]
    assert len({input_digest(variant) for variant in variants}) == len(variants)
    assert input_digest(images) == input_digest(tuple(images))
