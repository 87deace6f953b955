"""The plan of a run: which image goes into which shard, fixed before the work starts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from region_features.records.key import lmdb_key

SHARD_SUFFIX = ".tfrecord"
SHARDS_FOLDER = "tfrecord"  # of an output
_SHARD_NAME = re.compile(r"(.+)-([0-9]{5,})-of-([0-9]{5,})" + re.escape(SHARD_SUFFIX), re.DOTALL)


class ImageRef(NamedTuple):
    """One input image, and what tells whether its record is still true.

    Attributes:
        set_name: its set, the folder it lies in.
        img_id: its file stem.
        uri: where it is.
        size: in bytes, -1 where that is unknown.
        version: another text once the file changes; empty where that is unknown.
        captions: digest of its captions, empty where it has none.
        boxes: digest of the boxes given for it, empty where none are.
    """

    set_name: str
    img_id: str
    uri: str
    size: int
    version: str = ""
    captions: str = ""
    boxes: str = ""

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

    @property
    def set_names(self) -> list[str]:
        """Names of the image sets, each once, in the order of the shards."""
        return list(dict.fromkeys(key.set_name for key in self.shards))


def input_digest(refs: Sequence[ImageRef]) -> str:
    """Return the hex SHA-256 of what a plan says of a shard's images, which changes when an image does."""
    digest = hashlib.sha256()
    for ref in refs:
        row = [ref.img_id, ref.uri, ref.size, ref.version, ref.captions, ref.boxes]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def describe_change(old: Plan, new: Plan) -> str | None:
    """Name the first difference that forbids a new run to resume an old run's output; None if there is none."""
    for name in sorted({*old.settings, *new.settings}):
        before, now = (plan.settings.get(name, "the default") for plan in (old, new))
        if before != now:
            return f"the settings changed: {name} was {before}, now it is {now}"
    added, gone, example = _count_differences(_images(old), _images(new))
    if example:
        return f"the images changed: {added} new, {gone} gone, {example} for one"
    if list(old.shards) != list(new.shards):
        return f"the images were cut into {len(old.shards)} shards, now it would be {len(new.shards)}"
    return None


def _images(plan: Plan) -> Iterator[tuple[str, bytes, str]]:
    return ((ref.set_name, ref.key, ref.uri) for refs in plan.shards.values() for ref in refs)


def _count_differences(
    old: Iterator[tuple[str, bytes, str]], new: Iterator[tuple[str, bytes, str]]
) -> tuple[int, int, str]:
    """Compare two ascending lists: what is in the second alone, in the first alone, and an example."""
    added = gone = 0
    example = ""
    before, now = next(old, None), next(new, None)
    while before or now:
        if before == now:
            before, now = next(old, None), next(new, None)
            continue
        if before is None or (now is not None and now < before):
            assert now is not None
            added, example = added + 1, example or now[2]
            now = next(new, None)
        else:
            gone, example = gone + 1, example or before[2]
            before = next(old, None)
    return added, gone, example
