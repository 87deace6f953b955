"""Plans of a few images, made by the program's own planner."""

from __future__ import annotations

import io
from collections.abc import Iterable

from region_features.planning.catalog import Catalog
from region_features.records.plan import ImageRef, Plan, ShardKey
from region_features.records.plan_file import read_plan
from transforms.plans import choose_cut, make_plan, plan_chunks


def catalog_of(refs: Iterable[ImageRef]) -> Catalog:
    catalog = Catalog()
    for ref in refs:
        assert catalog.add_image(ref.uri, ref)
    return catalog


def assign_shards(refs: Iterable[ImageRef], num_shards: int | None) -> dict[ShardKey, tuple[ImageRef, ...]]:
    catalog = catalog_of(refs)
    return dict(make_plan({}, catalog.refs(), choose_cut(catalog, num_shards, None)).shards)


def encode_plan(plan: Plan) -> bytes:
    return b"".join(plan_chunks(plan))


def decode_plan(data: bytes, source: str) -> Plan:
    return read_plan(io.BytesIO(data), source)
