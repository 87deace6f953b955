"""The plan of a run: which image lies in which shard, fixed before the work starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from region_features.records.key import lmdb_key

IMAGES_PER_SHARD = 256
# VOLTA reads COCO's training and validation images from one LMDB.
_COCO_LMDB_NAMES = {"train2014": "trainval", "val2014": "trainval", "test2015": "test"}


@dataclass(frozen=True)
class ImageRef:
    """One input image: the set (folder) it lies in, its file stem, its URI and its size in bytes (-1: not seen)."""

    set_name: str
    img_id: str
    uri: str
    size: int


class ShardKey(NamedTuple):
    """One shard of a set: its number, the set's number of shards, and how many images it is made of."""

    set_name: str
    number: int
    of: int
    num_images: int

    @property
    def filename(self) -> str:
        """The shard's file name, `SET-00000-of-00008.tfrecord`."""
        return f"{self.set_name}-{self.number:05d}-of-{self.of:05d}.tfrecord"


@dataclass(frozen=True)
class Plan:
    """Every image of a run by shard, in shard and LMDB key order, with the settings that decide the records' bytes."""

    settings: Mapping[str, Any]
    shards: Mapping[ShardKey, tuple[ImageRef, ...]]

    @property
    def num_images(self) -> int:
        """Images in all shards."""
        return sum(key.num_images for key in self.shards)


def lmdb_name(set_name: str) -> str:
    """The name before `_feat.lmdb`: `trainval` and `test` for COCO's sets, else the set's own."""
    return _COCO_LMDB_NAMES.get(set_name, set_name)


def find_key_clashes(refs: Iterable[ImageRef]) -> list[tuple[str, str, str]]:
    """Pairs of images that would share one LMDB key.

    Returns:
        (key, first URI, second URI) for each clash.

    Raises:
        ValueError: an image's id cannot be an LMDB key; the message names the URI.
    """
    seen: dict[tuple[str, bytes], str] = {}
    clashes = []
    for ref in refs:
        try:
            key = lmdb_key(ref.img_id)
        except ValueError as error:
            raise ValueError(f"{ref.uri}: {error}") from error
        first = seen.setdefault((lmdb_name(ref.set_name), key), ref.uri)
        if first != ref.uri:
            clashes.append((key.decode(), first, ref.uri))
    return clashes


def assign_shards(refs: Iterable[ImageRef], num_shards: int | None) -> dict[ShardKey, tuple[ImageRef, ...]]:
    """Cut each set into contiguous ranges of the LMDB key's byte order.

    Args:
        refs: the images, in any order.
        num_shards: shards per set; None chooses about 256 images a shard. A set never gets more shards than images.
    """
    sets: dict[str, list[ImageRef]] = {}
    for ref in refs:
        sets.setdefault(ref.set_name, []).append(ref)
    shards = {}
    for set_name in sorted(sets):
        ordered = sorted(sets[set_name], key=_by_lmdb_key)
        total = len(ordered)
        of = min(num_shards or -(-total // IMAGES_PER_SHARD), total)
        for index in range(of):
            part = tuple(ordered[index * total // of : (index + 1) * total // of])
            shards[ShardKey(set_name, index, of, len(part))] = part
    return shards


def _by_lmdb_key(ref: ImageRef) -> bytes:
    return lmdb_key(ref.img_id)


def input_digest(refs: Sequence[ImageRef]) -> str:
    """Hex SHA-256 of a shard's inputs (ids, URIs, sizes): a changed image means another digest."""
    digest = hashlib.sha256()
    for ref in refs:
        digest.update(json.dumps([ref.img_id, ref.uri, ref.size]).encode())
    return digest.hexdigest()


def encode_plan(plan: Plan) -> bytes:
    """The plan as JSON lines: the settings, then one line an image."""
    lines = [json.dumps({"settings": dict(plan.settings)}, sort_keys=True)]
    for key, refs in plan.shards.items():
        for ref in refs:
            row = {"set": ref.set_name, "shard": key.number, "of": key.of}
            lines.append(json.dumps({**row, "img_id": ref.img_id, "uri": ref.uri, "size": ref.size}))
    return ("\n".join(lines) + "\n").encode()


def decode_plan(data: bytes, source: str) -> Plan:
    """The plan that `encode_plan` wrote.

    Raises:
        ValueError: `source` is not such a file.
    """
    groups: dict[tuple[str, int, int], list[ImageRef]] = {}
    try:
        header, *rows = data.decode().splitlines()
        settings = json.loads(header)["settings"]
        for line in rows:
            row = json.loads(line)
            ref = ImageRef(row["set"], row["img_id"], row["uri"], row["size"])
            groups.setdefault((row["set"], row["shard"], row["of"]), []).append(ref)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{source}: expected the plan of an earlier run, got something else ({error}); "
            "start afresh with --overwrite or choose another --output"
        ) from error
    return Plan(settings, {ShardKey(*group, len(refs)): tuple(refs) for group, refs in groups.items()})


def describe_change(old: Plan, new: Plan) -> str | None:
    """What sets a new run apart from the one whose output is there, in words; None where it may resume."""
    for name in sorted({*old.settings, *new.settings}):
        before, now = (plan.settings.get(name, "the default") for plan in (old, new))
        if before != now:
            return f"{name} was {before}, now it is {now}"
    before_uris = {(ref.set_name, ref.uri) for refs in old.shards.values() for ref in refs}
    now_uris = {(ref.set_name, ref.uri) for refs in new.shards.values() for ref in refs}
    if before_uris != now_uris:
        changed = min(before_uris ^ now_uris)[1]
        return (
            f"{len(now_uris - before_uris)} images are new and {len(before_uris - now_uris)} are gone, "
            f"{changed} for one"
        )
    if list(old.shards) != list(new.shards):
        return f"the images were cut into {len(old.shards)} shards, now it would be {len(new.shards)}"
    return None
