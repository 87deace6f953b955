"""Promises of every form of an LMDB, and the form of a folder."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from region_features.formats import safetensors, volta
from region_features.formats.pickles import peek_text
from region_features.lmdb_store.value_codecs import VALUE_CODECS, codec_name_of
from tests.samples.records import assert_same, make_record


@pytest.mark.parametrize("name", VALUE_CODECS)
def test_records_keys_and_ids_come_back(name: str) -> None:
    codec, record = VALUE_CODECS[name], make_record("COCO_val2014_000000000042", 36)
    assert_same(codec.decode(codec.encode(record), "x"), codec.kept(record))
    assert (codec.kept(record) is record) == ("float16" not in name)
    keys = [b"1", b"22"]
    assert codec.decode_keys(codec.encode_keys(keys), "x") == keys
    assert codec.peek(codec.encode(record)[:4096]) == record.img_id


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (None, "volta"),
        ("{", "volta"),
        ("[]", "volta"),
        ("{}", "volta"),
        ('{"settings": null}', "volta"),
        ('{"settings": {"lmdb_form": "volta-arrays"}}', "volta-arrays"),
    ],
)
def test_source_json_names_the_form_of_a_folder(content: str | None, form: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "source.json").write_text(content)
    assert codec_name_of(str(tmp_path)) == form


@pytest.mark.parametrize("form", ["later", ["later"]])
def test_an_unknown_form_is_refused(form: object, tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text(json.dumps({"settings": {"lmdb_form": form}}))
    with pytest.raises(ValueError, match=r"expected a form of volta, .*, got .*later"):
        codec_name_of(str(tmp_path))


@pytest.mark.parametrize("protocol", range(6))
def test_a_text_is_peeked_from_pickles_of_any_protocol(protocol: int) -> None:
    value = {"img_id": "COCO_val2014_000000000042", "img_h": "480", "features": "A" * 100_000}
    assert peek_text(pickle.dumps(value, protocol)[:4096], "img_id") == value["img_id"]
    assert peek_text(pickle.dumps({"features": "A" * 100_000, **value}, protocol)[:4096], "img_id") is None
    assert peek_text(pickle.dumps({"img_id": 7}, protocol), "img_id") is None
    assert peek_text(pickle.dumps(["x"], protocol), "img_id") is None


@pytest.mark.parametrize("data", [b"", b"\x80", b"text", bytes(100), b"img_id"])
def test_no_id_is_peeked_from_other_bytes(data: bytes) -> None:
    assert volta.peek_id(data) is None
    assert safetensors.peek_id(data) is None
