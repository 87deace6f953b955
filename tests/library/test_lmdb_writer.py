"""The LMDB writer's own checks of its keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from region_features.lmdb_store.writer import LmdbItem, LmdbWriter


def test_the_writer_checks_the_order_itself(tmp_path: Path) -> None:
    with LmdbWriter(str(tmp_path), 1 << 20) as writer:
        writer.write([LmdbItem(b"b", b"1", "s0")])
        with pytest.raises(ValueError, match="s1: expected ascending LMDB keys, got b'a' after b'b'"):
            writer.write([LmdbItem(b"a", b"2", "s1")])


def test_a_writer_of_any_order_refuses_a_second_image_of_a_key(tmp_path: Path) -> None:
    with LmdbWriter(str(tmp_path), 1 << 20, ascending=False) as writer:
        writer.write([LmdbItem(b"b", b"1", "s0"), LmdbItem(b"a", b"2", "s1")])
        with pytest.raises(ValueError, match="s2: two images have the LMDB key b'b'; rename or leave out one of them"):
            writer.write([LmdbItem(b"b", b"3", "s2")])
