"""dataset_coco.json: parsed, joined, written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline  # pytest collects what is called Test
from apache_beam.testing.util import assert_that, equal_to

from region_features.records.item import CaptionedImage, ImageCaptions
from region_features.records.plan import ImageRef, ShardKey
from tests.conftest import karpathy_row
from transforms.annotations import (
    JoinAnnotations,
    WriteCaptionFiles,
    caption_files,
    check_test1k_ids,
    parse_captions,
    parse_test1k_ids,
)

SOURCE = "coco/dataset_coco.json"


def row(coco_id: int, split: str = "train", **changed: Any) -> dict[str, Any]:
    return {**karpathy_row("val2014", f"COCO_val2014_{coco_id:012d}.jpg", coco_id, split), **changed}


def without(entry: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != name}


def dump(*rows: Any) -> bytes:
    return json.dumps({"images": rows, "dataset": "coco"}).encode()


def entry(coco_id: int, split: str, *sentences: str) -> ImageCaptions:
    return ImageCaptions(f"COCO_{coco_id}", coco_id, split, sentences, tuple(range(len(sentences))))


def test_a_row_is_read_as_karpathy_wrote_it() -> None:
    sentences = [
        {"tokens": ["a"], "raw": "A man with a red helmet  ", "imgid": 0, "sentid": 770337},
        {"tokens": [], "raw": "Größe 😀 \u2028 \t", "imgid": 0, "sentid": 771687},
    ]
    entries, failures = parse_captions(dump(row(391895, "test", sentences=sentences)), SOURCE)
    assert failures == []
    assert entries == [
        ImageCaptions(
            "COCO_val2014_000000391895",
            391895,
            "test",
            ("A man with a red helmet  ", "Größe 😀 \u2028 \t"),
            (770337, 771687),
        )
    ]


def test_rows_keep_the_files_order() -> None:
    entries, _ = parse_captions(dump(row(9), row(1, "val"), row(5, "restval", sentences=[])), SOURCE)
    assert [entry.coco_id for entry in entries] == [9, 1, 5]
    assert entries[2].sentences == ()


def test_a_byte_order_mark_and_raw_non_ascii_are_read() -> None:
    data = b"\xef\xbb\xbf" + json.dumps({"images": [row(1)]}, ensure_ascii=False).encode()
    assert parse_captions(data, SOURCE)[0][0].sentences[0] == "Café 1 number 0. "


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b'{"images": [', "Expecting value"),
        (b"[]", "list indices"),
        (b"null", "not subscriptable"),
        (b"{}", "got: none of that name"),
        (b'{"images": {}}', "'images' is a dict, not a list"),
        (b'{"images": null}', "'images' is a NoneType, not a list"),
        (b"\xff\xff\xff\xff", "decode"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_a_file_of_another_kind_is_named_with_a_remedy(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=r"expected Karpathy's dataset_coco\.json.*caption_datasets\.zip") as caught:
        parse_captions(data, SOURCE)
    assert str(caught.value).startswith(SOURCE) and words in str(caught.value)


@pytest.mark.parametrize(
    ("damaged", "img_id", "words"),
    [
        (None, "", "images[1]: "),
        ([], "", "images[1]: "),
        ("text", "", "images[1]: "),
        ({}, "", "images[1]: missing field 'filename'"),
        (without(row(2), "split"), "COCO_val2014_000000000002", "missing field 'split'"),
        (without(row(2), "cocoid"), "COCO_val2014_000000000002", "missing field 'cocoid'"),
        (without(row(2), "sentences"), "COCO_val2014_000000000002", "missing field 'sentences'"),
        (row(2, "dev"), "COCO_val2014_000000000002", "field split: expected one of train, restval, val, test, got 'd"),
        (row(2, sentences=None), "COCO_val2014_000000000002", "NoneType"),
        (row(2, sentences=["text"]), "COCO_val2014_000000000002", "images[1]: "),
        (row(2, sentences=[{"raw": "a"}]), "COCO_val2014_000000000002", "missing field 'sentid'"),
        (row(2, sentences=[{"sentid": 1}]), "COCO_val2014_000000000002", "missing field 'raw'"),
        (row(2, sentences=[{"raw": 5, "sentid": 1}]), "COCO_val2014_000000000002", "field raw: expected text"),
        (row(2, sentences=[{"raw": "a", "sentid": "x"}]), "COCO_val2014_000000000002", "invalid literal"),
        (row(2, sentences=[{"raw": "a", "sentid": 2**63}]), "COCO_val2014_000000000002", "expected a 64-bit number"),
        (row(2, sentences=[{"raw": "a", "sentid": float("inf")}]), "COCO_val2014_000000000002", "infinity"),
        (row(2, sentences=[{"raw": "\ud83d", "sentid": 1}]), "COCO_val2014_000000000002", "expected valid Unicode"),
        (row(2, cocoid=None), "COCO_val2014_000000000002", "NoneType"),
        (row(2, cocoid=float("nan")), "COCO_val2014_000000000002", "NaN"),
        (row(2, filename=7), "", "field filename: expected NAME.jpg, got 7"),
        (row(2, filename=".jpg"), "", "field filename: expected NAME.jpg, got '.jpg'"),
        (row(2, filename="noext"), "", "field filename: expected NAME.jpg, got 'noext'"),
        (row(2, filename="\udce9.jpg"), "\udce9", "expected valid Unicode"),
        (row(1), "COCO_val2014_000000000001", "filename appears a second time"),
    ],
)
def test_a_damaged_row_is_a_failure_and_its_neighbours_stay(damaged: Any, img_id: str, words: str) -> None:
    entries, failures = parse_captions(dump(row(1), damaged, row(3)), SOURCE)
    assert [entry.coco_id for entry in entries] == [1, 3]
    (failure,) = failures
    assert (failure.uri, failure.img_id, failure.stage) == (SOURCE, img_id, "captions")
    assert failure.reason.startswith(f"{SOURCE}, images[1]: ") and words in failure.reason


def test_test1k_ids_as_editors_leave_them() -> None:
    assert parse_test1k_ids(b"\xef\xbb\xbf391895\r\n\r\n 42 \r\n42\n7", "ids.txt") == {391895, 42, 7}
    assert parse_test1k_ids(b"", "ids.txt") == frozenset()


@pytest.mark.parametrize("line", [b"4x", b"COCO_val2014_000000000042.jpg", b"1.5", b"# ids", b"\xff", b"1 2"])
def test_a_line_that_is_no_id_is_named(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"^ids\.txt, line 3: expected one coco id, got "):
        parse_test1k_ids(b"1\n\n" + line + b"\n", "ids.txt")


def test_test1k_ids_must_be_of_split_test() -> None:
    entries = [entry(1, "test"), entry(2, "train"), entry(3, "test")]
    check_test1k_ids(frozenset([1, 3]), entries, "ids.txt")
    check_test1k_ids(frozenset(), entries, "ids.txt")
    with pytest.raises(ValueError, match=r"^ids\.txt: expected coco ids of split test, but 2 are not in it, 2 for one"):
        check_test1k_ids(frozenset([1, 2, 9]), entries, "ids.txt")


def test_caption_files_follow_the_files_order_with_train_before_restval() -> None:
    entries = [
        entry(5, "restval", "r5"),
        entry(4, "train", "t4 ", "é"),
        entry(3, "test", "e3"),
        entry(2, "restval"),
        entry(1, "train", "t1"),
        entry(7, "val", 'quote " and \\ and \u2028'),
        entry(6, "test", "e6"),
    ]
    written = {name: b"".join(lines).decode() for name, lines in caption_files(entries, frozenset([6, 3, 4])).items()}
    ids = {name: [json.loads(line)["id"] for line in text.split("\n")[:-1]] for name, text in written.items()}
    assert ids == {
        "train_ann.jsonl": [4, 1, 5, 2],
        "valid_ann.jsonl": [7],
        "test_ann.jsonl": [3, 6],
        "test1k_ann.jsonl": [3, 6],
    }
    assert json.loads(written["train_ann.jsonl"].split("\n")[0]) == {"sentences": ["t4 ", "é"], "id": 4}
    assert json.loads(written["valid_ann.jsonl"])["sentences"] == ['quote " and \\ and \u2028']


def test_without_ids_there_is_no_test1k_file() -> None:
    assert list(caption_files([], None)) == ["train_ann.jsonl", "valid_ann.jsonl", "test_ann.jsonl"]
    assert b"".join(caption_files([], frozenset())["test1k_ann.jsonl"]) == b""


def test_caption_files_are_published(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_bytes(dump(row(1), None, row(2, "test"), row(3, "test")))
    (tmp_path / "ids.txt").write_text("3\n")
    out = tmp_path / "annotations"
    with Pipeline() as pipeline:
        sizes = (
            pipeline
            | beam.Create([str(tmp_path / "coco.json")])
            | WriteCaptionFiles(str(out), str(tmp_path / "ids.txt"))
        )
        names = ("train", "valid", "test", "test1k")
        assert_that(sizes | beam.Keys(), equal_to([f"{name}_ann.jsonl" for name in names]))
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{name}_ann.jsonl" for name in names)
    assert (out / "valid_ann.jsonl").read_bytes() == b""
    assert [json.loads(line)["id"] for line in (out / "test_ann.jsonl").open()] == [2, 3]
    assert [json.loads(line)["id"] for line in (out / "test1k_ann.jsonl").open()] == [3]


def grouped(element: tuple[Any, Any]) -> tuple[Any, list[tuple[str, str, int]]]:
    shard, images = element
    return shard, sorted((i.ref.set_name, i.ref.img_id, i.captions.coco_id if i.captions else -1) for i in images)


def test_images_and_captions_meet_by_id_and_gather_by_shard(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_bytes(dump(row(1), row(2, "test"), None, row(9)))
    stem = "COCO_val2014_00000000000"
    first, second = ShardKey("val2014", 0, 2, 2), ShardKey("val2014", 1, 2, 1)
    other = ShardKey("copy", 0, 1, 1)
    images = [
        (f"{stem}2", (second, ImageRef("val2014", f"{stem}2", "c", 1))),
        (f"{stem}1", (first, ImageRef("val2014", f"{stem}1", "a", 1))),
        ("stranger", (first, ImageRef("val2014", "stranger", "b", 1))),
        (f"{stem}1", (other, ImageRef("copy", f"{stem}1", "d", 1))),
    ]
    wanted = [
        (tuple(first), [("val2014", f"{stem}1", 1), ("val2014", "stranger", -1)]),
        (tuple(second), [("val2014", f"{stem}2", 2)]),
        (tuple(other), [("copy", f"{stem}1", 1)]),
    ]
    with Pipeline() as pipeline:
        joined = pipeline | beam.Create(images) | JoinAnnotations(str(tmp_path / "coco.json")) | beam.Map(grouped)
        assert_that(joined, equal_to(wanted))


def test_without_a_captions_file_no_image_has_captions() -> None:
    shard = ShardKey("photos", 0, 1, 1)
    image = ImageRef("photos", "a", "photos/a.jpg", 1)
    with Pipeline() as pipeline:
        joined = pipeline | beam.Create([("a", (shard, image))]) | JoinAnnotations(None)
        assert_that(
            joined | beam.MapTuple(lambda key, images: (key, list(images))),
            equal_to([(tuple(shard), [CaptionedImage(image, None)])]),
        )
