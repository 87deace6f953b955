"""Arrays of hard negatives whose file is damaged in any way are a problem that is named, never an error."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from region_features.formats.hard_negatives import encode_npz, encode_pickle
from region_features.validation.hard_negatives import check_negatives

POOL, IDS = np.array([[0, 1], [1, 0]]), np.array([7, 8])


def npz_with(header: bytes) -> bytes:
    """Write arrays whose header, text that numpy parses as Python, is another one."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(encode_npz(POOL, IDS))) as whole, zipfile.ZipFile(stream, "w") as changed:
        for name in whole.namelist():
            data = whole.read(name)
            changed.writestr(name, data[:10] + header.ljust(len(data[:-32]) - 11) + b"\n" + data[-32:])
    return stream.getvalue()


def test_whole_arrays_are_right() -> None:
    assert list(check_negatives(encode_npz(POOL, IDS), encode_pickle(POOL, IDS), 2, {7, 8})) == []


@pytest.mark.parametrize("header", [b"{'descr': '<i8', (", b"'''", b"{'descr': '<i8'}", b"(" * 90, b"\xff", b""])
def test_a_damaged_header_is_named(header: bytes) -> None:
    (problem,) = check_negatives(npz_with(header), b"", 2, None)
    assert problem.message.startswith("hard_negative.npz: expected the arrays of hard negatives, got ")


def test_an_entry_that_is_no_array_is_named() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as changed:
        for name in ("train_hard_pool.npy", "train_image_list.npy"):
            changed.writestr(name, b"no array")
    (problem,) = check_negatives(stream.getvalue(), b"", 2, None)
    assert "train_hard_pool that is no array" in problem.message
