"""The caption files *_ann.jsonl: their order, their content, and what is bad in them."""

from __future__ import annotations

import json

import pytest

from region_features.formats.annotations import caption_digest, decode_annotation_file, encode_annotation_files
from region_features.records.item import ImageCaptions


def captions(coco_id: int, split: str, *sentences: str) -> ImageCaptions:
    return ImageCaptions(f"COCO_{coco_id}", coco_id, split, sentences, tuple(range(len(sentences))))


IMAGES = [
    captions(5, "restval", "r5"),
    captions(4, "train", "t4 ", "é"),
    captions(3, "test", "e3"),
    captions(2, "restval"),
    captions(1, "train", "t1"),
    captions(7, "val", 'quote " and \\ and \u2028'),
    captions(6, "test", "e6"),
]


def encoded(test1k_ids: frozenset[int] | None) -> dict[str, bytes]:
    return {name: b"".join(lines) for name, lines in encode_annotation_files(IMAGES, test1k_ids)}


def test_images_keep_the_order_of_the_dataset_with_train_before_restval() -> None:
    files = encoded(frozenset([6, 3, 4]))
    ids = {name: [json.loads(line)["id"] for line in data.split(b"\n")[:-1]] for name, data in files.items()}
    assert ids == {
        "train_ann.jsonl": [4, 1, 5, 2],
        "valid_ann.jsonl": [7],
        "test_ann.jsonl": [3, 6],
        "test1k_ann.jsonl": [3, 6],
    }
    assert json.loads(files["train_ann.jsonl"].split(b"\n")[0]) == {"sentences": ["t4 ", "é"], "id": 4}
    assert json.loads(files["valid_ann.jsonl"])["sentences"] == ['quote " and \\ and \u2028']


def test_without_ids_there_is_no_test1k_file() -> None:
    assert list(encoded(None)) == ["train_ann.jsonl", "valid_ann.jsonl", "test_ann.jsonl"]
    assert encoded(frozenset())["test1k_ann.jsonl"] == b""


def test_an_encoded_file_is_decoded_with_its_line_numbers_and_digests() -> None:
    rows, problems = decode_annotation_file(encoded(None)["train_ann.jsonl"], "train_ann.jsonl")
    assert problems == []
    digests = {image.coco_id: caption_digest(image.sentences) for image in IMAGES}
    assert len(set(digests.values())) == len(IMAGES)
    assert rows == {4: (1, digests[4]), 1: (2, digests[1]), 5: (3, digests[5]), 2: (4, digests[2])}
    assert decode_annotation_file(b"", "test_ann.jsonl")[0] == {}


@pytest.mark.parametrize("line", [b"{", b"", b"[]", b'{"id": 7}', b'{"sentences": [], "id": 7.5}'])
def test_a_bad_line_is_named_and_its_neighbours_stay(line: bytes) -> None:
    good = b'{"sentences": ["a"], "id": 1}\n', b'{"sentences": ["b"], "id": 2}\n'
    rows, problems = decode_annotation_file(good[0] + line + b"\n" + good[1], "a_ann.jsonl")
    assert list(rows) == [1, 2]
    expected = 'a_ann.jsonl, line 2: expected {"sentences": [...], "id": number or name}, got '
    assert problems == [f"{expected}{line!r}"]


def test_a_repeated_id_is_named_and_its_first_line_stays() -> None:
    line = b'{"sentences": ["a"], "id": 1}\n'
    rows, problems = decode_annotation_file(line * 2, "a_ann.jsonl")
    assert rows == {1: (1, caption_digest(["a"]))}
    assert problems == ["a_ann.jsonl, line 2: id 1 comes a second time"]
