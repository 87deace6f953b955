"""The plan of a run: which image goes into which shard, fixed before the work starts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from region_features.records.coco import lmdb_name
from region_features.records.key import lmdb_key

IMAGES_PER_SHARD = 256
SHARD_SUFFIX = ".tfrecord"
SHARDS_FOLDER = "tfrecord"  # of an output
_SHARD_NAME = re.compile(r"(.+)-([0-9]{5,})-of-([0-9]{5,})" + re.escape(SHARD_SUFFIX), re.DOTALL)
# Of the rows of `encode_plan`.
_ROW_TYPES = {"set": str, "shard": int, "of": int, "img_id": str, "uri": str, "size": int, "version": str}


@dataclass(frozen=True)
class ImageRef:
    """One input image: its set (folder), file stem, URI, size in bytes (-1: unknown) and version.

    The version is another text once the file changes; empty where that is unknown.
    """

    set_name: str
    img_id: str
    uri: str
    size: int
    version: str = ""

    @property
    def key(self) -> bytes:
        """The image's LMDB key, by which shards are sorted; raises as `lmdb_key`."""
        return lmdb_key(self.img_id)


class ShardKey(NamedTuple):
    """One planned shard: its set, its number, the set's number of shards, and how many images it is made of."""

    set_name: str
    number: int
    of: int
    num_images: int

    @property
    def filename(self) -> str:
        """The shard's file name, `SET-00000-of-00008.tfrecord`."""
        return f"{self.set_name}-{self.number:05d}-of-{self.of:05d}{SHARD_SUFFIX}"


def parse_shard_name(name: str) -> tuple[str, int, int] | None:
    """Split what `ShardKey.filename` made into set, number and the set's number of shards; None for any other name."""
    match = _SHARD_NAME.fullmatch(name)
    return (match[1], int(match[2]), int(match[3])) if match else None


@dataclass(frozen=True)
class Plan:
    """Every image of a run by shard, in shard and LMDB key order, with the settings that decide the records' bytes."""

    settings: Mapping[str, Any]
    shards: Mapping[ShardKey, tuple[ImageRef, ...]]

    @property
    def num_images(self) -> int:
        """Number of images in all shards."""
        return sum(key.num_images for key in self.shards)


def find_key_clashes(refs: Iterable[ImageRef]) -> list[tuple[str, str, str]]:
    """List pairs of images that would share a key in one LMDB: (key, first URI, second URI).

    Raises:
        ValueError: an image's id cannot be an LMDB key; the message names the URI.
    """
    seen: dict[tuple[str, bytes], str] = {}
    clashes = []
    for ref in refs:
        try:
            key = ref.key
        except ValueError as error:
            raise ValueError(f"{ref.uri}: {error}") from error
        first = seen.setdefault((lmdb_name(ref.set_name), key), ref.uri)
        if first != ref.uri:
            clashes.append((key.decode(), first, ref.uri))
    return clashes


def assign_shards(refs: Iterable[ImageRef], num_shards: int | None) -> dict[ShardKey, tuple[ImageRef, ...]]:
    """Sort each set by LMDB key and cut it into shards of equal size, give or take one image.

    `num_shards` is per set, at most one per image; None means the fewest shards of at most IMAGES_PER_SHARD.
    """
    shards = {}
    ordered = sorted(refs, key=lambda ref: (ref.set_name, ref.key))
    for set_name, group in groupby(ordered, key=lambda ref: ref.set_name):
        images = tuple(group)
        total = len(images)
        of = min(num_shards or -(-total // IMAGES_PER_SHARD), total)
        for number in range(of):
            part = images[number * total // of : (number + 1) * total // of]
            shards[ShardKey(set_name, number, of, len(part))] = part
    return shards


def input_digest(refs: Sequence[ImageRef]) -> str:
    """Return the hex SHA-256 of what a plan says of a shard's images, which changes when an image does."""
    digest = hashlib.sha256()
    for ref in refs:
        digest.update(json.dumps([ref.img_id, ref.uri, ref.size, ref.version]).encode())
    return digest.hexdigest()


def encode_plan(plan: Plan) -> bytes:
    """Encode a plan as JSON lines: the settings, then one line per image."""
    lines = [json.dumps({"settings": dict(plan.settings)}, sort_keys=True)]
    for key, refs in plan.shards.items():
        for ref in refs:
            row = {"set": ref.set_name, "shard": key.number, "of": key.of}
            row |= {"img_id": ref.img_id, "uri": ref.uri, "size": ref.size, "version": ref.version}
            lines.append(json.dumps(row))
    return ("\n".join(lines) + "\n").encode()


def decode_plan(data: bytes, source: str) -> Plan:
    """Decode what `encode_plan` wrote; a ValueError names `source`, the file, if it is no plan."""
    groups: dict[tuple[str, int, int], list[ImageRef]] = {}
    try:
        header, *rows = data.decode().splitlines()
        settings = json.loads(header)["settings"]
        if not isinstance(settings, dict):
            raise ValueError(f"settings that are a {type(settings).__name__}")
        for line in rows:
            row = json.loads(line)
            for name, kind in _ROW_TYPES.items():
                if type(row[name]) is not kind:
                    raise ValueError(f"{name} that is a {type(row[name]).__name__}")
            ref = ImageRef(row["set"], row["img_id"], row["uri"], row["size"], row["version"])
            groups.setdefault((row["set"], row["shard"], row["of"]), []).append(ref)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{source}: expected the plan of an earlier run, got something else ({error}); "
            "start afresh with --overwrite or choose another --output"
        ) from error
    return Plan(settings, {ShardKey(*group, len(refs)): tuple(refs) for group, refs in groups.items()})


def describe_change(old: Plan, new: Plan) -> str | None:
    """Name the first difference that forbids a new run to resume an old run's output; None if there is none."""
    for name in sorted({*old.settings, *new.settings}):
        before, now = (plan.settings.get(name, "the default") for plan in (old, new))
        if before != now:
            return f"{name} was {before}, now it is {now}"
    old_uris, new_uris = (
        {(ref.set_name, ref.uri) for refs in plan.shards.values() for ref in refs} for plan in (old, new)
    )
    if old_uris != new_uris:
        changed = min(old_uris ^ new_uris)[1]
        return f"{len(new_uris - old_uris)} images are new and {len(old_uris - new_uris)} are gone, {changed} for one"
    if list(old.shards) != list(new.shards):
        return f"the images were cut into {len(old.shards)} shards, now it would be {len(new.shards)}"
    return None
