"""LMDBs of other programs, whole and damaged."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest

from region_features.lmdb_store.reader import open_lmdb


def make_lmdb(folder: Path) -> Path:
    with lmdb.open(str(folder), map_size=1 << 24) as env, env.begin(write=True) as transaction:
        for number in range(20):
            transaction.put(str(number).encode(), bytes([number]) * 10_000)
    return folder / "data.mdb"


@pytest.mark.parametrize("readahead", [False, True])
def test_a_whole_lmdb_is_read(readahead: bool, tmp_path: Path) -> None:
    make_lmdb(tmp_path / "old")
    with open_lmdb(str(tmp_path / "old"), readahead) as env, env.begin() as transaction:
        assert transaction.get(b"7") == b"\7" * 10_000


def test_a_cut_off_lmdb_is_refused(tmp_path: Path) -> None:
    path = make_lmdb(tmp_path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2])
    with pytest.raises(ValueError, match=f"{tmp_path}: expected data.mdb of {size} bytes, got {size // 2}; copy it"):
        open_lmdb(str(tmp_path), readahead=True)


def test_a_folder_without_data_mdb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a folder with data.mdb, found none in it"):
        open_lmdb(str(tmp_path), readahead=True)


@pytest.mark.parametrize("content", [b"", b"text", b"\0" * 9000])
def test_a_file_that_is_no_lmdb_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(ValueError, match=r"expected an LMDB that can be opened, got .*; is it damaged"):
        open_lmdb(str(tmp_path), readahead=True)
