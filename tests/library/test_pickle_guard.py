"""Pickles whose memo would fill the memory are refused before they are loaded; honest ones pass."""

from __future__ import annotations

import pickle
import tracemalloc

import pytest

from region_features.formats.pickle_guard import check_memo
from region_features.formats.pickles import load_restricted
from region_features.lmdb_store.value_codecs import VALUE_CODECS
from tests.samples.records import make_record

MANY = [str(number) for number in range(1000)]  # more than a memo's short numbers
CONTENTS = [
    None,
    {"a": [1, b"b", 2.5, True, {"c": (None, "ä\n😀")}, 2**70, -1, frozenset({3})]},
    {"many": MANY, "again": MANY},
    [bytes(70_000), "x" * 70_000],
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("content", CONTENTS)
def test_honest_pickles_pass(content: object, protocol: int) -> None:
    check_memo(pickle.dumps(content, protocol))


@pytest.mark.parametrize("form", ["volta", "volta-arrays"])
def test_values_of_an_lmdb_pass(form: str) -> None:
    check_memo(VALUE_CODECS[form].encode(make_record("x_7")))


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04]r\x00\x00\x00\x08.",
        b"\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00]r\xfe\x9e\x6b\x51.",
        b"\x80\x04\x8c\x01ar\x00\x00\x00\x08.",
        b"(dp99999999\n.",
    ],
)
def test_a_memo_of_gigabytes_is_refused(data: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"its memo would have \d{8,} entries in \d+ bytes"):
        load_restricted(data, dict, "a dict", "file")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"\x80\x04}", b"\xff.", b"\x8c\xffa.", b"cos\nsystem", b"pnone\n."])
def test_damaged_opcodes_are_refused(data: bytes) -> None:
    with pytest.raises((pickle.UnpicklingError, ValueError)):
        check_memo(data)
