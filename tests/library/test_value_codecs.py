"""What all forms of an LMDB have in common."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from region_features.formats.pickle_peek import peek_pickle
from region_features.lmdb_store.value_codecs import VALUE_CODECS, form_of
from tests.samples.records import assert_same, make_record


@pytest.mark.parametrize("name", VALUE_CODECS)
def test_records_and_keys_come_back(name: str) -> None:
    form, record = VALUE_CODECS[name], make_record("COCO_val2014_000000000042", 36)
    assert_same(form.decode(form.encode(record), "x"), form.kept(record))
    assert (form.kept(record) is record) == ("float16" not in name)
    keys = [b"1", b"22"]
    assert form.decode_keys(form.encode_keys(keys), "x") == keys
    assert form.peek(form.encode(record)[:4096]) == record.img_id


def test_the_form_of_a_folder(tmp_path: Path) -> None:
    assert form_of(str(tmp_path)) == "volta"
    for content, form in (("{", "volta"), ("[]", "volta"), ("{}", "volta"), ('{"form": "compact"}', "compact")):
        (tmp_path / "source.json").write_text(content)
        assert form_of(str(tmp_path)) == form
    for later in ("later", ["later"]):
        (tmp_path / "source.json").write_text(json.dumps({"form": later}))
        with pytest.raises(ValueError, match=r"expected a form of volta, .*, got .*later"):
            form_of(str(tmp_path))


@pytest.mark.parametrize("protocol", range(6))
def test_ids_are_seen_in_pickles_of_any_age(protocol: int) -> None:
    value = {"img_id": "COCO_val2014_000000000042", "img_h": "480", "features": "A" * 100_000}
    assert peek_pickle(pickle.dumps(value, protocol)[:4096]) == value["img_id"]
    assert peek_pickle(pickle.dumps({"features": "A" * 100_000, **value}, protocol)[:4096]) is None
    assert peek_pickle(pickle.dumps({"img_id": 7}, protocol)) is None
    assert peek_pickle(pickle.dumps(["x"], protocol)) is None


def test_nothing_is_seen_in_other_bytes() -> None:
    for data in (b"", b"\x80", b"RGNF", bytes(100), b"img_id"):
        assert peek_pickle(data) is None
