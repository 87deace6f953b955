"""Colours of things that have one by nature: where they are the opposite, red and blue were swapped.

Green things, and most black, white and gray ones, look the same with swapped channels, so they tell nothing.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from region_features.names import visual_genome
from region_features.records.region_record import RegionRecord

_WARM = ("brown", "tan", "orange", "yellow", "red")
_BLUE = ("blue", "light blue", "dark blue")
_WARM_THINGS = (
    *("wood", "dirt", "soil", "sand", "brick", "trunk", "tree trunk", "hair", "fur", "face", "skin", "giraffe"),
    *("horse", "cow", "bear", "teddy bear", "dog", "lion", "pizza", "crust", "bread", "bun", "cheese", "donut"),
    *("carrot", "carrots", "orange", "oranges", "banana", "bananas", "hot dog", "cutting board"),
)
_BLUE_THINGS = ("sky", "ocean", "sea", "water", "jeans")


class _Ids(NamedTuple):
    warm: list[int]
    blue: list[int]
    warm_things: list[int]
    blue_things: list[int]


@cache
def _ids() -> _Ids:
    names = visual_genome()
    attributes = {name: number for number, aliases in enumerate(names.attributes) for name in aliases}
    objects = {name: number for number, aliases in enumerate(names.objects) for name in aliases}
    return _Ids(
        *([attributes[name] for name in words] for words in (_WARM, _BLUE)),
        *([objects[name] for name in words] for words in (_WARM_THINGS, _BLUE_THINGS)),
    )


def colour_votes(record: RegionRecord) -> tuple[tuple[int, int], tuple[int, int]]:
    """Count things by their colour.

    Returns:
        Of things that are warm by nature, those that are warm and those that are blue; of things that are blue by
        nature, those that are blue and those that are warm. Zeros if the classes are not Visual Genome's.
    """
    if not visual_genome().fit(record) or any(map(record.lacks, ("objects_id", "attrs_id", "attrs_conf"))):
        return (0, 0), (0, 0)
    ids = _ids()
    named = record.attrs_conf > 0
    warm, blue = (named & np.isin(record.attrs_id, colours) for colours in (ids.warm, ids.blue))
    warm_things, blue_things = (np.isin(record.objects_id, things) for things in (ids.warm_things, ids.blue_things))
    return (
        (int((warm_things & warm).sum()), int((warm_things & blue).sum())),
        (int((blue_things & blue).sum()), int((blue_things & warm).sum())),
    )
