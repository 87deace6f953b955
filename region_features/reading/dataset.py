"""RegionFeatures: a map-style dataset of the images in an LMDB or in TFRecord shards."""

from __future__ import annotations

import glob
import operator
import os
from collections.abc import Iterator, Sequence
from typing import Any, SupportsIndex

import numpy as np

from region_features.exports.lmdb import LMDBS_FOLDER
from region_features.formats.example import ImageExample
from region_features.lmdb_store.reader import DATA_FILE, LmdbReader
from region_features.reading.shards import ShardReader
from region_features.records.plan import SHARD_SUFFIX, SHARDS_FOLDER
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord

_EXPECTED = (
    f"expected an LMDB folder (with {DATA_FILE}), a folder of *{SHARD_SUFFIX}, a glob of these, or a run's output "
    "with either; check the path"
)


class RegionFeatures:
    """A map-style dataset for torch's DataLoader: `features[7]`, `features["COCO_val2014_000000000042"]`.

    Images are indexed by position, id (file stem) or LMDB key (`"42"`), each in constant time. Each process opens the
    files for itself on first use: instances may be pickled, sent to workers, and used before and after a fork.

    An item is a dict: `img_id` str; `img_h`, `img_w`, `num_boxes` int; `objects_id`, `attrs_id` int64 (K,);
    `objects_conf`, `attrs_conf` float32 (K,); `boxes` float32 (K, 4), x1, y1, x2, y2 in pixels of the original image;
    `features` float32 (K, D); `cls_prob` float32 (K, C); `attrs` float32 (K, A). Items from shards also have
    `captions` list of str, `caption_ids` int64 of the same length, and `split` str, all empty for an image without
    captions. Arrays are writable copies.

    Args:
        path: the output of a run, whose shards are read, or its LMDB where it has no shards; an LMDB folder
            (`.../trainval_feat.lmdb`), a folder of TFRecord shards, one shard, or a glob of shards.

    Raises:
        FileNotFoundError: the path names no LMDB and no shard.
        ValueError: the path is remote, an output without shards has several LMDBs, or a shard is damaged or unfinished.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._source = _open_source(self._path)

    @property
    def keys(self) -> Sequence[str]:
        """The LMDB keys of all images as text, by position."""
        return self._source.keys

    def __len__(self) -> int:
        return len(self._source.keys)

    def __contains__(self, name: object) -> bool:
        """Return whether an image has this id or LMDB key."""
        return isinstance(name, str) and self._source.has(name)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, index: SupportsIndex | str) -> dict[str, Any]:
        """Return the item at a position, or of an id or LMDB key.

        Raises:
            IndexError: the position is out of range.
            KeyError: no image has this id or key, or images of several sets have it.
            ValueError: the record is damaged; the message names the file.
        """
        if isinstance(index, str):
            return _as_item(self._source.read_named(index))
        position, total = operator.index(index), len(self)
        if not -total <= position < total:
            raise IndexError(f"{self._path}: expected a position below {total}, got {position}")
        return _as_item(self._source.read_at(position % total))

    def __repr__(self) -> str:
        return f"RegionFeatures({self._path!r})"


def _open_source(path: str) -> LmdbReader | ShardReader:
    if "://" in path:
        raise ValueError(f"{path}: expected a local path; copy the files to a local disk, or read them with tf.data")
    if os.path.isdir(path):
        if os.path.exists(os.path.join(path, DATA_FILE)):
            return LmdbReader(path)
        shards = _shards_in(path) or _shards_in(os.path.join(path, SHARDS_FOLDER))
        return ShardReader(shards) if shards else _only_lmdb(path)
    shards = sorted(glob.glob(glob.escape(path) if os.path.exists(path) else path))
    if not shards:
        raise FileNotFoundError(f"{path}: {_EXPECTED}")
    return ShardReader(shards)


def _shards_in(folder: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(folder), f"*{SHARD_SUFFIX}")))


def _only_lmdb(output: str) -> LmdbReader:
    """Open the one LMDB of an output without shards.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several.
    """
    found = glob.glob(os.path.join(glob.escape(output), LMDBS_FOLDER, "*", DATA_FILE))
    lmdbs = sorted(os.path.dirname(path) for path in found)
    if not lmdbs:
        raise FileNotFoundError(f"{output}: {_EXPECTED}")
    if len(lmdbs) > 1:
        raise ValueError(f"{output}: expected shards or one LMDB, found {len(lmdbs)}; name one: {', '.join(lmdbs)}")
    return LmdbReader(lmdbs[0])


def _as_item(image: RegionRecord | ImageExample) -> dict[str, Any]:
    record = image.record if isinstance(image, ImageExample) else image
    item: dict[str, Any] = {name: getattr(record, name) for name in ("img_id", "img_h", "img_w", "num_boxes")}
    # Copies: torch warns about read-only arrays, and a view would keep the whole serialized record in memory.
    item |= {field.name: np.array(getattr(record, field.name)) for field in ARRAY_FIELDS}
    if isinstance(image, ImageExample):
        caption_ids = np.array(image.caption_ids, np.int64)
        item |= {"captions": list(image.captions), "caption_ids": caption_ids, "split": image.split}
    return item
