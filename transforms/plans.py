"""The plan of a run, opened wherever it stands, and made of a catalog."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO

from region_features.planning.catalog import Catalog
from region_features.planning.cut import equal_cut, kept_cut
from region_features.records.plan import ImageRef, Plan, ShardKey
from region_features.records.plan_file import PlanFile, encode_plan, read_plan, write_plan
from transforms import files


def open_plan(path: str) -> Plan:
    """Open plan.jsonl; a remote one is copied to a temporary file first.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no plan; names it.
    """
    if not files.is_remote(path):
        return read_plan(open(path, "rb"), path)
    local = _temporary()
    with files.open_stream(path) as stream:
        shutil.copyfileobj(stream, local)
    local.seek(0)
    return read_plan(local, path)


def _temporary() -> BinaryIO:
    return tempfile.TemporaryFile()


def plan_chunks(plan: Plan) -> Iterator[bytes]:
    """Return the content of a plan's file."""
    if isinstance(plan.shards, PlanFile):
        return plan.shards.chunks()
    return encode_plan(plan.settings, plan.shards.items())


def make_plan(settings: Mapping[str, Any], images: Iterator[ImageRef], cut: Mapping[str, Sequence[int]]) -> Plan:
    """Cut images into shards.

    Args:
        settings: everything that decides the records' bytes.
        images: those of a catalog, in its order.
        cut: sizes of the shards of each set.
    """
    local = _temporary()
    return write_plan(local, settings, cut_images(images, cut))


def cut_images(images: Iterator[Any], cut: Mapping[str, Sequence[int]]) -> Iterator[tuple[ShardKey, Iterator[Any]]]:
    """Yield each shard with its part of `images`, which come in order; take a part before the next shard."""
    for set_name, sizes in cut.items():
        for number, size in enumerate(sizes):
            yield ShardKey(set_name, number, len(sizes), size), islice(images, size)


def choose_cut(catalog: Catalog, num_shards: int | None, earlier: Plan | None) -> dict[str, list[int]]:
    """Return the sizes of the shards of each set of a catalog.

    Args:
        catalog: the images.
        num_shards: shards of each set, None for shards of a usual size.
        earlier: a plan whose borders stay where `num_shards` says nothing else, so that its shards can stay, too.
    """
    cut = {}
    for set_name, total in catalog.sets().items():
        cut[set_name] = equal_cut(total, num_shards)
        keys = [key for key in earlier.shards if key.set_name == set_name] if earlier and not num_shards else []
        if earlier and keys:
            firsts = [earlier.shards[key][0].key for key in keys]
            cut[set_name] = kept_cut(catalog.keys(set_name), firsts, [key.num_images for key in keys])
    return cut


def refs_of(plan: Plan) -> Iterator[ImageRef]:
    """Yield every image of a plan."""
    return (ref for refs in plan.shards.values() for ref in refs)
