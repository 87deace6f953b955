"""The captions that were checked, and the published annotation files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline  # pytest collects what is called Test
from apache_beam.testing.util import assert_that, equal_to

from tests.samples.captions import dataset_json, val_row
from tests.samples.pinned import pin
from transforms.annotations import WriteAnnotationFiles, read_captions, write_annotation_files


def test_annotation_files_are_published(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_bytes(dataset_json(val_row(1), None, val_row(2, "test"), val_row(3, "test")))
    (tmp_path / "ids.txt").write_text("3\n")
    out = tmp_path / "annotations"
    names = [f"{name}_ann.jsonl" for name in ("train", "valid", "test", "test1k")]
    with Pipeline() as pipeline:
        uris = pipeline | beam.Create([pin(tmp_path / "coco.json")])
        sizes = uris | WriteAnnotationFiles(str(out), pin(tmp_path / "ids.txt"))
        assert_that(sizes | beam.Keys(), equal_to(names))
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert (out / "valid_ann.jsonl").read_bytes() == b""
    assert [json.loads(line)["id"] for line in (out / "test_ann.jsonl").open()] == [2, 3]
    assert [json.loads(line)["id"] for line in (out / "test1k_ann.jsonl").open()] == [3]


def test_files_that_were_replaced_after_the_check_are_refused(tmp_path: Path) -> None:
    captions, ids = tmp_path / "coco.json", tmp_path / "ids.txt"
    captions.write_bytes(dataset_json(val_row(1, "test")))
    ids.write_text("1\n")
    checked = [pin(path) for path in (captions, ids)]
    readers: list[Callable[[], Any]] = [
        lambda: list(read_captions(checked[0])),
        lambda: list(write_annotation_files(checked[0], str(tmp_path / "out"), checked[1])),
    ]
    for path, read in zip((captions, ids), readers, strict=True):
        read()
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        with pytest.raises(ValueError, match=re.escape(str(path)) + ".*expected the content that was checked before"):
            read()
        path.write_bytes(content)
        read()
