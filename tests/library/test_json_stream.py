"""The items of a list in a JSON file are read one after the other, whatever part of the file is there."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from region_features.formats import json_stream
from region_features.formats.json_stream import iter_items

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    items=st.lists(JSON, max_size=5),
    others=st.dictionaries(st.text(), JSON, max_size=3),
    chunk=st.integers(1, 9),
    options=st.sampled_from([{}, {"indent": 1}, {"ensure_ascii": False}, {"separators": (",", ":")}]),
)
def test_items_are_those_of_the_whole_file(
    items: list[Any], others: dict[str, Any], chunk: int, options: dict[str, Any]
) -> None:
    content = {**others, "images": items, "z": 12}
    data = json.dumps(content, **options).encode("utf-8", "surrogatepass")
    try:
        data.decode()
    except UnicodeDecodeError:
        return  # half a character, written as it is: no JSON file
    stream = io.BytesIO(data)
    assert list(iter_items(lambda size: stream.read(min(chunk, size)), "images")) == items


def test_a_damaged_item_does_not_take_the_rest_of_the_file_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_LONGEST", 1000)
    monkeypatch.setattr(json_stream, "_CHUNK", 100)
    stream = io.BytesIO(b'{"images": [1, "' + b"x" * 100_000)
    items = iter_items(stream.read, "images")
    assert next(items) == 1
    with pytest.raises(ValueError, match="an item of more than 1000 characters"):
        next(items)
    assert stream.tell() < 5000
