"""Names of classes: those that ship with the library, files of others, and what of a record they describe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from region_features.formats.tsv import decode_tsv_row
from region_features.names import ClassNames, parse_names, visual_genome
from tests.samples.records import make_record

NAMES = ClassNames(tuple((f"object {i}",) for i in range(6)), tuple((f"attribute {i}",) for i in range(4)))


def test_visual_genome_has_1600_objects_and_400_attributes_with_aliases() -> None:
    names = visual_genome()
    assert (len(names.objects), len(names.attributes)) == (1600, 400)
    assert names.object_name(0) == "yolk" and names.object_name(1599) == names.objects[-1][0]
    assert names.attribute_name(4) == "red"
    assert ("television", "tv") in names.objects and ("gray", "grey") in names.attributes
    assert len({name for name, *_ in names.objects}) == 1600


def test_ids_of_real_records_index_the_names_without_an_offset(real_tsv: Path) -> None:
    """Compared with the photographs by eye: an offset of one would give other words."""
    records = [decode_tsv_row(line, "real") for line in real_tsv.read_bytes().splitlines()]
    described = {record.img_id[-6:]: [visual_genome().describe(record, row) for row in range(36)] for record in records}
    assert all(visual_genome().fit(record) for record in records)
    for image, start in (
        ("201446", "carrot 0.97, orange"),
        ("201446", "onion 0.73, white"),
        ("084002", "bed 0.91, wooden"),
        ("084002", "headboard 0.91, metal"),
    ):
        assert any(words.startswith(start) for words in described[image]), start


def test_a_region_is_described_with_attribute_and_confidences() -> None:
    record = replace(
        make_record("x_1", boxes=2),
        objects_id=np.array([5, 0]),
        objects_conf=np.array([0.926, 0.5], np.float32),
        attrs_id=np.array([3, 0]),
        attrs_conf=np.array([0.414, 0.0], np.float32),
    )
    assert NAMES.describe(record, 0) == "object 5 0.93, attribute 3 0.41"
    assert NAMES.phrase(record, 0) == "attribute 3 object 5"
    assert (NAMES.describe(record, 1), NAMES.phrase(record, 1)) == ("object 0 0.50", "object 0")
    assert ClassNames(NAMES.objects).describe(record, 0) == "object 5 0.93"


def test_names_fit_a_record_with_as_many_classes_and_a_short_row_with_no_larger_id() -> None:
    record = make_record("x_1", boxes=3)
    assert NAMES.fit(record) and not visual_genome().fit(record)
    assert not ClassNames(NAMES.objects[:5], NAMES.attributes).fit(record)
    assert not ClassNames(NAMES.objects, NAMES.attributes[:3]).fit(record)
    empty = np.empty((3, 0), np.float32)
    short = replace(record, cls_prob=empty, attrs=empty, objects_id=np.array([0, 1, 5]))
    assert NAMES.fit(short) and visual_genome().fit(short)
    assert not ClassNames(NAMES.objects[:5], NAMES.attributes).fit(short)


def test_an_id_without_a_class_is_an_index_error() -> None:
    for bad in (-1, 6):
        with pytest.raises(IndexError):
            NAMES.object_name(bad)


def test_a_file_of_names_has_a_class_a_line_and_aliases_after_commas() -> None:
    assert parse_names("\ufeffman, guy\r\nfire  hydrant,\n", "n.txt") == (("man", "guy"), ("fire hydrant",))
    with pytest.raises(ValueError, match=r"n\.txt, line 2: expected the name of class 1, got ', b'"):
        parse_names("a\n, b\n", "n.txt")
    with pytest.raises(ValueError, match=r"n\.txt: expected a name a line, got an empty file"):
        parse_names("", "n.txt")
