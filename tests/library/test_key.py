from __future__ import annotations

import pytest

from region_features.records.key import lmdb_key


@pytest.mark.parametrize(
    ("img_id", "key"),
    [
        ("COCO_val2014_000000391895", b"391895"),
        ("COCO_val2014_000000000000", b"0"),
        ("000456", b"456"),
        ("a_b_007", b"7"),
        ("holiday", b"holiday"),
        ("holiday_", b"holiday_"),
        ("cat_7a", b"cat_7a"),
        ("cat_-7", b"cat_-7"),
        ("cat_+7", b"cat_+7"),
        ("cat_1_000", b"0"),
        ("cat_²", "cat_²".encode()),
        ("cat_٣", "cat_٣".encode()),
        ("Übung", "Übung".encode()),
        ("x_keys", b"x_keys"),
        ("a_" + "0" * 9000 + "5", b"5"),
        ("a" * 511, b"a" * 511),
    ],
)
def test_the_key_is_the_number_that_ends_the_stem_or_else_the_stem(img_id: str, key: bytes) -> None:
    assert lmdb_key(img_id) == key


@pytest.mark.parametrize(
    ("img_id", "message"),
    [
        ("", "expected a file stem as image id, got an empty one"),
        ("keys", "image keys: its LMDB key is b'keys', which names the key list"),
        ("a" * 512, "expected an LMDB key of at most 511 bytes, got 512"),
        ("é" * 256, "expected an LMDB key of at most 511 bytes, got 512"),
        ("a_" + "9" * 512, "expected an LMDB key of at most 511 bytes, got 512"),
        ("bad\udcff", "expected a stem that is valid Unicode"),
    ],
)
def test_stems_that_cannot_be_keys_are_refused(img_id: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lmdb_key(img_id)
