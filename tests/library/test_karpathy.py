"""dataset_coco.json and the ids of the 1K test set: good rows are read, bad ones named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from region_features.formats.karpathy import check_test1k_ids, parse_test1k_ids
from region_features.records.item import ImageCaptions
from tests.samples.captions import dataset_json, parse_dataset, val_row

SOURCE = "coco/dataset_coco.json"
SECOND = "COCO_val2014_000000000002"


def without(row: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != field}


def test_a_row_keeps_its_sentences_as_they_are() -> None:
    sentences = [
        {"tokens": ["a"], "raw": "A man with a red helmet  ", "imgid": 0, "sentid": 770337},
        {"tokens": [], "raw": "Größe 😀 \u2028 \t", "imgid": 0, "sentid": 771687},
    ]
    images, failures = parse_dataset(dataset_json(val_row(391895, "test", sentences=sentences)), SOURCE)
    assert failures == []
    assert images == [
        ImageCaptions(
            "COCO_val2014_000000391895",
            391895,
            "test",
            ("A man with a red helmet  ", "Größe 😀 \u2028 \t"),
            (770337, 771687),
        )
    ]


def test_rows_are_read_in_file_order() -> None:
    images, _ = parse_dataset(dataset_json(val_row(9), val_row(1, "val"), val_row(5, "restval", sentences=[])), SOURCE)
    assert [image.coco_id for image in images] == [9, 1, 5]
    assert images[2].sentences == ()


def test_a_byte_order_mark_and_raw_non_ascii_are_read() -> None:
    data = b"\xef\xbb\xbf" + json.dumps({"images": [val_row(1)]}, ensure_ascii=False).encode()
    assert parse_dataset(data, SOURCE)[0][0].sentences[0] == "Café 1 number 0. "


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "expected '{', got the end"),
        (b"{", "expected '\"', got the end"),
        (b'{"images": [', "Expecting value"),
        (b'{"images": [12', "expected ',' or ']', got the end"),
        (b'{"images": [{"a": tru}]}', "Expecting value: '{\"a\": tru}]}'"),
        (b'{"images": []} x', "expected the end of the file after the object, got 'x'"),
        (b'{"images": [] "b": 1}', "expected ',' or '}', got '\"'"),
        (b"[]", "expected '{', got '['"),
        (b"null", "expected '{', got 'n'"),
        (b"{}", "got: none of the name 'images'"),
        (b'{"images": {}}', "'images' is a dict, not a list"),
        (b'{"images": null}', "'images' is a NoneType, not a list"),
        (b"\xff\xff\xff\xff", "decode"),
        (b'{"images": [' + b"[" * 100_000, "nested too deep"),
    ],
)
def test_a_file_of_another_schema_is_refused_with_a_remedy(data: bytes, words: str) -> None:
    with pytest.raises(
        ValueError, match=r"expected captions: Karpathy's dataset_coco\.json.*docs/inputs\.md"
    ) as caught:
        parse_dataset(data, SOURCE)
    assert str(caught.value).startswith(SOURCE) and words in str(caught.value)


@pytest.mark.parametrize(
    ("damaged", "img_id", "words"),
    [
        (None, "", "images[1]: expected an object with the field 'filename', got None"),
        ([], "", "images[1]: "),
        ("text", "", "images[1]: "),
        ({}, "", "images[1]: missing field 'filename'"),
        (without(val_row(2), "split"), SECOND, "missing field 'split'"),
        (without(val_row(2), "sentences"), SECOND, "missing field 'sentences'"),
        (
            val_row(2, "dev"),
            "COCO_val2014_000000000002",
            "field split: expected one of train, restval, val, test, got 'd",
        ),
        (val_row(2, sentences=None), SECOND, "field sentences: expected a list, got None"),
        (val_row(2, sentences=["text"]), SECOND, "expected an object with the field 'raw', got 'text'"),
        (val_row(2, sentences=[{"raw": "a"}]), SECOND, "missing field 'sentid'"),
        (val_row(2, sentences=[{"sentid": 1}]), SECOND, "missing field 'raw'"),
        (val_row(2, sentences=[{"raw": 5, "sentid": 1}]), SECOND, "field raw: expected text"),
        (val_row(2, sentences=[{"raw": "a", "sentid": "x"}]), SECOND, "field sentid: expected a whole number"),
        (
            val_row(2, sentences=[{"raw": "a", "sentid": 2**63}]),
            "COCO_val2014_000000000002",
            "field sentid: expected a whole number of 64 bits",
        ),
        (val_row(2, sentences=[{"raw": "a", "sentid": float("inf")}]), SECOND, "got inf"),
        (val_row(2, sentences=[{"raw": "\ud83d", "sentid": 1}]), SECOND, "expected valid Unicode"),
        (val_row(2, cocoid=None), SECOND, "field cocoid: expected a whole number of 64 bits, got None"),
        (val_row(2, cocoid=10**30), SECOND, "field cocoid: expected a whole number of 64 bits, got 1000"),
        (val_row(2, cocoid=2.0), SECOND, "field cocoid: expected a whole number of 64 bits, got 2.0"),
        (val_row(2, cocoid="2"), SECOND, "field cocoid: expected a whole number"),
        (val_row(2, cocoid=True), SECOND, "field cocoid: expected a whole number"),
        (val_row(2, cocoid=1), SECOND, "field cocoid: 1 is that of images[0] as well"),
        (val_row(2, cocoid=float("nan")), SECOND, "got nan"),
        (val_row(2, filename=7), "", "field filename: expected text, got 7"),
        (val_row(2, filename=".jpg"), "", "field filename: expected NAME.jpg, got '.jpg'"),
        (val_row(2, filename="noext"), "", "field filename: expected NAME.jpg, got 'noext'"),
        (val_row(2, filename="\udce9.jpg"), "\udce9", "expected valid Unicode"),
        (val_row(1), "COCO_val2014_000000000001", "filename appears a second time"),
    ],
)
def test_a_damaged_row_is_a_failure_and_its_neighbours_stay(damaged: Any, img_id: str, words: str) -> None:
    images, failures = parse_dataset(dataset_json(val_row(1), damaged, val_row(3)), SOURCE)
    assert [image.coco_id for image in images] == [1, 3]
    (failure,) = failures
    assert (failure.uri, failure.img_id, failure.stage) == (SOURCE, img_id, "captions")
    assert failure.reason.startswith(f"{SOURCE}, images[1]: ") and words in failure.reason


def test_ids_are_read_despite_blank_lines_and_a_byte_order_mark() -> None:
    assert parse_test1k_ids(b"\xef\xbb\xbf391895\r\n\r\n 42 \r\n42\n7", "ids.txt") == {391895, 42, 7}
    assert parse_test1k_ids(b"", "ids.txt") == frozenset()


@pytest.mark.parametrize("line", [b"4x", b"COCO_val2014_000000000042.jpg", b"1.5", b"# ids", b"\xff", b"1 2"])
def test_a_line_without_an_id_is_refused_by_number(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"^ids\.txt, line 3: expected one coco id, got "):
        parse_test1k_ids(b"1\n\n" + line + b"\n", "ids.txt")


def test_ids_of_other_splits_are_refused() -> None:
    check_test1k_ids(frozenset([1, 3]), [1, 3], "ids.txt")
    check_test1k_ids(frozenset(), [1, 3], "ids.txt")
    with pytest.raises(ValueError, match=r"^ids\.txt: expected coco ids of split test, but 2 are not in it, 2 for one"):
        check_test1k_ids(frozenset([1, 2, 9]), [1, 3], "ids.txt")
