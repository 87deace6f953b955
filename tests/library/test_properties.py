"""Properties of codecs and of the planner, on records, names and bytes that hypothesis makes up."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from region_features.formats import safetensors, tfrecord, tsv, volta, volta_arrays
from region_features.formats.boxes import parse_boxes
from region_features.formats.example import decode_example, encode_example
from region_features.planning.cut import IMAGES_PER_SHARD
from region_features.records.plan import ImageRef, Plan, parse_shard_name
from region_features.records.region_record import RegionRecord
from tests.samples.captions import parse_dataset
from tests.samples.plans import assign_shards, decode_plan, encode_plan
from tests.samples.records import assert_same, make_example, make_record

# Characters that a file's name may hold, of every plane; a slash ends a name.
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20)
FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
REPEATABLE = settings(max_examples=100, deadline=None, derandomize=True)


@st.composite
def records(draw: st.DrawFn, least_boxes: int = 0) -> RegionRecord:
    """Records of any shape and content, NaN, infinities and negative zeros included."""
    boxes = draw(st.integers(least_boxes, 4))
    width, classes, attributes = (draw(st.integers(1, 5)) for _ in range(3))

    def floats(*shape: int) -> np.ndarray:
        return draw(arrays(np.float32, shape, elements=FLOATS))

    def ids() -> np.ndarray:
        return draw(arrays(np.int64, boxes, elements=st.integers(-(2**63), 2**63 - 1)))

    return RegionRecord(
        img_id=draw(NAMES),
        img_h=draw(st.integers(1, 2**31)),
        img_w=draw(st.integers(1, 2**31)),
        objects_id=ids(),
        objects_conf=floats(boxes),
        attrs_id=ids(),
        attrs_conf=floats(boxes),
        boxes=floats(boxes, 4),
        features=floats(boxes, width),
        cls_prob=floats(boxes, classes),
        attrs=floats(boxes, attributes),
    )


CODECS: dict[str, tuple[Callable[[RegionRecord], bytes], Callable[[bytes, str], RegionRecord]]] = {
    "example": (
        lambda record: encode_example(make_example(record)),
        lambda data, where: decode_example(data, where).record,
    ),
    "volta": (volta.encode_volta, volta.decode_volta),
    "volta-arrays": (volta_arrays.encode_arrays, volta_arrays.decode_arrays),
    "safetensors": (lambda record: safetensors.encode_record(record, False), safetensors.decode_record),
}


@pytest.mark.parametrize("name", CODECS)
@REPEATABLE
@given(data=st.data())
def test_a_record_comes_back_bit_for_bit(name: str, data: st.DataObject) -> None:
    encode, decode = CODECS[name]
    # VOLTA's own form has no shapes, so that without boxes the widths are lost.
    record = data.draw(records(least_boxes=name == "volta"))
    assert_same(decode(encode(record), "file"), record)


@pytest.mark.parametrize("name", CODECS)
@REPEATABLE
@given(place=st.integers(0, 10**9), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_bytes_are_a_value_error_or_a_record(name: str, place: int, value: int, cut: bool) -> None:
    encode, decode = CODECS[name]
    data = bytearray(encode(make_record("a", boxes=2, width=4)))
    place %= len(data)
    data[place] = value
    try:
        decode(bytes(data[:place] if cut else data), "file")
    except ValueError as error:
        assert "file" in str(error)


@REPEATABLE
@given(contents=st.lists(st.binary(max_size=50), max_size=5), place=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_a_shard_file_gives_back_its_records_and_no_flipped_bit_passes(
    contents: list[bytes], place: int, bit: int
) -> None:
    stream = io.BytesIO()
    for content in contents:
        tfrecord.write_record(stream, content)
    data = bytearray(stream.getvalue())
    assert list(tfrecord.read_records(io.BytesIO(data), "s")) == contents
    if data:
        data[place % len(data)] ^= 1 << bit
        with pytest.raises(ValueError, match=r"^s"):
            list(tfrecord.read_records(io.BytesIO(data), "s"))


@REPEATABLE
@given(record=records(least_boxes=1).filter(lambda record: not set(record.img_id) & set("\t\r\n")))
def test_a_tsv_row_is_found_and_comes_back(record: RegionRecord) -> None:
    row = tsv.encode_tsv_row(record, 13)
    (place,) = tsv.find_rows(io.BytesIO(row), "t.tsv")
    assert isinstance(place, tsv.RowPlace) and place.img_id == record.img_id
    assert_same(tsv.decode_tsv_row(row[place.offset : place.offset + place.length], "t.tsv"), record)


@REPEATABLE
@given(data=st.binary(max_size=300))
def test_text_files_of_others_are_parsed_or_refused_by_name(data: bytes) -> None:
    for parse in (parse_boxes, parse_dataset):
        try:
            parse(data, "file")
        except ValueError as error:
            assert "file" in str(error)


IMAGES = st.lists(
    st.tuples(st.sampled_from("ab"), NAMES, st.integers(-1, 99)), min_size=1, max_size=40, unique_by=lambda i: i[:2]
)


@REPEATABLE
@given(images=IMAGES, num_shards=st.none() | st.integers(1, 9))
def test_a_plan_holds_every_image_once_in_key_order_and_survives_its_file(
    images: list[tuple[str, str, int]], num_shards: int | None
) -> None:
    refs = [ImageRef(folder, f"x{name}", f"{folder}/{name}.jpg", size, "v") for folder, name, size in images]
    plan = Plan({"min_boxes": 10}, assign_shards(refs, num_shards))
    planned = [ref for shard in plan.shards.values() for ref in shard]
    assert sorted(planned, key=lambda ref: ref.uri) == sorted(refs, key=lambda ref: ref.uri)
    for folder in {ref.set_name for ref in refs}:
        shards = [shard for key, shard in plan.shards.items() if key.set_name == folder]
        keys = [ref.key for shard in shards for ref in shard]
        assert keys == sorted(keys)
        sizes = {len(shard) for shard in shards}
        assert max(sizes) - min(sizes) <= 1 and len(shards) <= (num_shards or 1)
    assert decode_plan(encode_plan(plan), "plan") == plan


@REPEATABLE
@given(images=IMAGES, num_shards=st.none() | st.integers(1, 9), data=st.data())
def test_a_plan_does_not_depend_on_the_order_of_the_listing(
    images: list[tuple[str, str, int]], num_shards: int | None, data: st.DataObject
) -> None:
    refs = [ImageRef(folder, f"x{name}", f"{folder}/{name}.jpg", size, "v") for folder, name, size in images]
    keys = [(ref.set_name, ref.key) for ref in refs]
    assume(len(set(keys)) == len(keys))  # such images are refused before
    shards = assign_shards(refs, num_shards)
    assert list(assign_shards(data.draw(st.permutations(refs)), num_shards).items()) == list(shards.items())
    for key, part in shards.items():
        assert key.num_images == len(part) > 0 and {ref.set_name for ref in part} == {key.set_name}
        assert parse_shard_name(key.filename) == (key.set_name, key.number, key.of)
    for folder in {ref.set_name for ref in refs}:
        numbers = [(key.number, key.of) for key in shards if key.set_name == folder]
        assert numbers == [(number, len(numbers)) for number in range(len(numbers))]


@settings(REPEATABLE, max_examples=30)
@given(count=st.integers(1, 5 * IMAGES_PER_SHARD))
def test_by_default_a_set_has_the_fewest_shards_of_the_usual_size(count: int) -> None:
    shards = assign_shards((ImageRef("a", f"x_{number}", f"{number}.jpg", 1) for number in range(count)), None)
    sizes = [len(part) for part in shards.values()]
    assert max(sizes) <= IMAGES_PER_SHARD and (len(sizes) - 1) * IMAGES_PER_SHARD < count
    assert sum(sizes) == count and max(sizes) - min(sizes) <= 1
