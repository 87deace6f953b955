"""Captions files of every schema: told apart, read in order, bad rows named."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from region_features.formats.annotations import encode_annotation_files
from region_features.formats.captions import read_caption_file
from region_features.records.failure import Failure
from region_features.records.item import ImageCaptions
from tests.samples.captions import dataset_json, val_row

ONE = "COCO_val2014_000000000001"


def parse(data: bytes, source: str = "captions.json") -> tuple[list[ImageCaptions], list[str]]:
    rows = list(read_caption_file(io.BytesIO(data).read, source))
    failures = [row for row in rows if isinstance(row, Failure)]
    assert all((row.uri, row.stage) == (source, "captions") for row in failures)
    return [row for row in rows if isinstance(row, ImageCaptions)], [row.reason for row in failures]


def coco_json(**changed: Any) -> bytes:
    content = {
        "info": {"description": "COCO 2014 Dataset"},
        "images": [
            {"id": 9, "file_name": "COCO_val2014_000000000009.jpg", "height": 480},
            {"id": 1, "file_name": f"{ONE}.jpg"},
            {"id": 5, "file_name": "COCO_val2014_000000000005.jpg"},
        ],
        "licenses": [],
        "annotations": [
            {"image_id": 1, "id": 49, "caption": "A café. "},
            {"image_id": 9, "id": 50, "caption": "x"},
            {"image_id": 1, "id": 48, "caption": "b"},
        ],
    }
    return json.dumps({**content, **changed}).encode()


def lines(*rows: Any) -> bytes:
    return b"\n".join(json.dumps(row).encode() for row in rows)


@pytest.mark.parametrize("annotations_first", [False, True])
def test_cocos_own_captions_are_joined_in_the_order_of_the_images(annotations_first: bool) -> None:
    content = json.loads(coco_json())
    data = json.dumps(dict(reversed(content.items())) if annotations_first else content).encode()
    images, reasons = parse(data, "annotations/captions_val2014.json")
    assert reasons == []
    assert images == [
        ImageCaptions("COCO_val2014_000000000009", 9, "val", ("x",), (50,)),
        ImageCaptions(ONE, 1, "val", ("A café. ", "b"), (49, 48)),
    ]


def test_the_split_is_that_of_the_files_name_else_of_the_images() -> None:
    assert {image.split for image in parse(coco_json(), "gs://b/captions_train2014.json")[0]} == {"train"}
    assert {image.split for image in parse(coco_json(), "train/mine.json")[0]} == {"val"}


def test_damaged_items_of_cocos_captions_are_named_and_their_neighbours_stay() -> None:
    images, reasons = parse(
        coco_json(
            images=[{"id": 1, "file_name": f"{ONE}.jpg"}, {"id": 1, "file_name": "b.jpg"}, {"id": "2"}, None],
            annotations=[
                {"image_id": 7, "id": 1, "caption": "x"},
                {"image_id": 1, "id": 2, "caption": None},
                {"image_id": 1, "id": 3, "caption": "\ud83d"},
                {"image_id": 1, "id": 4, "caption": "good"},
            ],
        )
    )
    assert [image.sentences for image in images] == [("good",)]
    assert [reason.removeprefix("captions.json, ").partition(": ")[0] for reason in reasons] == [
        *(f"images[{place}]" for place in (1, 2, 3)),
        *(f"annotations[{place}]" for place in (1, 2, 0)),
    ]
    assert "expected one of the images', got 7" in reasons[-1]


def test_a_file_of_coco_without_annotations_is_refused() -> None:
    content = json.loads(coco_json())
    del content["annotations"]
    with pytest.raises(ValueError, match=r"expected COCO's captions, .* got: none of the name 'annotations'"):
        parse(json.dumps(content).encode())


def test_json_lines_are_read_with_numbers_through_the_file() -> None:
    data = lines(
        {"img_id": "10002456", "sentences": ["Two men. ", "é"]},
        {"img_id": ONE, "sentences": ["c"], "split": "test"},
        {"img_id": "photo", "sentences": []},
    )
    images, reasons = parse(b"\xef\xbb\xbf" + data + b"\n\n", "my_val.jsonl")
    assert reasons == []
    assert images == [
        ImageCaptions("10002456", "10002456", "val", ("Two men. ", "é"), (0, 1), "10002456.jpg"),
        ImageCaptions(ONE, 1, "test", ("c",), (2,)),
        ImageCaptions("photo", "photo", "val", (), (), "photo.jpg"),
    ]
    assert [image.split for image in parse(data, "mine.jsonl")[0]] == ["train", "test", "train"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "Expecting"),
        (b"[]", "expected an object with the field 'img_id', got []"),
        (b'{"img_id": 7, "sentences": []}', "field img_id: expected text, got 7"),
        (b'{"img_id": "x"}', "missing field 'sentences'"),
        (b'{"img_id": "x", "sentences": [1]}', "field sentences: expected text, got 1"),
        (b'{"img_id": "x", "sentences": ["\\ud83d"]}', "expected valid Unicode"),
        (b'{"img_id": "x", "sentences": [], "split": "dev"}', "field split: expected one of train"),
        (b'{"img_id": "a", "sentences": []}', "img_id appears a second time"),
    ],
)
def test_a_damaged_line_is_a_failure_and_its_neighbours_stay(line: bytes, words: str) -> None:
    good = [lines({"img_id": name, "sentences": [name]}) for name in "ab"]
    images, (reason,) = parse(b"\n".join([good[0], line, good[1]]))
    assert [image.img_id for image in images] == ["a", "b"]
    assert reason.startswith("captions.json, line 2: ") and words in reason


def test_rows_of_karpathys_schema_without_cocoid_have_the_stem_as_id() -> None:
    rows = [val_row(1), {**val_row(2), "filename": "36979.jpg"}, val_row(3)]
    for row in rows[:2]:
        del row["cocoid"]
    images, reasons = parse(dataset_json(*rows))
    assert reasons == []
    assert [(image.coco_id, image.filename) for image in images] == [(1, ""), ("36979", "36979.jpg"), (3, "")]
    written = {name: b"".join(chunks) for name, chunks in encode_annotation_files(images, None)}
    told = [json.loads(line) for line in written["train_ann.jsonl"].splitlines()]
    assert [set(row) for row in told] == [{"sentences", "id"}, {"sentences", "id", "img_path"}, {"sentences", "id"}]
    assert told[1]["id"] == "36979" and told[1]["img_path"] == "36979.jpg"
