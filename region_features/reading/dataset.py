"""RegionFeatures: a map-style dataset over an LMDB folder or TFRecord shards."""

from __future__ import annotations

import glob
import operator
import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, SupportsIndex

import numpy as np

from region_features.formats.example import ImageExample
from region_features.lmdb_store.open import DATA_FILE
from region_features.lmdb_store.reader import LmdbReader
from region_features.reading.shards import ShardReader
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord


class Source(Protocol):
    """Where records come from; picklable, and usable in a forked child."""

    @property
    def keys(self) -> Sequence[str]:
        """The images' LMDB keys as text, by position."""

    def read_at(self, position: int) -> RegionRecord | ImageExample:
        """The image at a position from 0."""

    def read_named(self, name: str) -> RegionRecord | ImageExample:
        """The image of this id or key.

        Raises:
            KeyError: there is none.
        """

    def has(self, name: str) -> bool:
        """Whether there is an image of this id or key."""


class RegionFeatures:
    """A map-style dataset, as torch's DataLoader takes it: `features[7]`, `features["COCO_val2014_000000000042"]`.

    An image is found by its position, its id (file stem) or its LMDB key (`"42"`), in a time that does not grow with
    the number of images. Files are opened on first use, in each process anew: instances may be pickled, sent to
    workers, and used before and after a fork.

    An item is a dict: `img_id` str; `img_h`, `img_w`, `num_boxes` int; `objects_id`, `attrs_id` int64 (K,);
    `objects_conf`, `attrs_conf` float32 (K,); `boxes` float32 (K, 4), pixels; `features`, `cls_prob`, `attrs` float32
    (K, D), (K, C), (K, A). Items from shards have also `captions` list of str, `caption_ids` int64, as many, and
    `split` str, each empty where the image has no captions. Arrays are the caller's own and writable.

    Args:
        path: an LMDB folder (`.../trainval_feat.lmdb`), a folder of TFRecord shards, one shard, or a glob of shards.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: the path is remote, or a shard is damaged or unfinished.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._source = _open_source(self._path)

    @property
    def keys(self) -> Sequence[str]:
        """The images' LMDB keys as text, in the order of the positions."""
        return self._source.keys

    def __len__(self) -> int:
        """Number of images."""
        return len(self._source.keys)

    def __contains__(self, name: object) -> bool:
        """Whether there is an image of this id or key."""
        return isinstance(name, str) and self._source.has(name)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All images, by position."""
        return (self[position] for position in range(len(self)))

    def __getitem__(self, index: SupportsIndex | str) -> dict[str, Any]:
        """One image, by position, id or LMDB key.

        Raises:
            IndexError: no such position.
            KeyError: no such id or key.
            ValueError: the record is damaged; names the file.
        """
        if isinstance(index, str):
            return _as_item(self._source.read_named(index))
        position, total = operator.index(index), len(self)
        if not -total <= position < total:
            raise IndexError(f"{self._path}: expected a position below {total}, got {position}")
        return _as_item(self._source.read_at(position % total))

    def __repr__(self) -> str:
        return f"RegionFeatures({self._path!r})"


def _open_source(path: str) -> Source:
    if "://" in path:
        raise ValueError(f"{path}: expected a local path; copy the files to a local disk, or read them with tf.data")
    if os.path.isdir(path):
        if os.path.exists(os.path.join(path, DATA_FILE)):
            return LmdbReader(path)
        pattern = os.path.join(glob.escape(path), "*.tfrecord")
    else:
        pattern = glob.escape(path) if os.path.exists(path) else path
    shards = sorted(glob.glob(pattern))
    if not shards:
        raise FileNotFoundError(
            f"{path}: expected an LMDB folder (with {DATA_FILE}), a folder of *.tfrecord, or a glob of them; "
            "a run's OUT has them as OUT/tfrecord and OUT/resnet101_faster_rcnn_genome_imgfeats/volta/NAME_feat.lmdb"
        )
    return ShardReader(shards)


def _as_item(image: RegionRecord | ImageExample) -> dict[str, Any]:
    record = image.record if isinstance(image, ImageExample) else image
    item: dict[str, Any] = {name: getattr(record, name) for name in ("img_id", "img_h", "img_w", "num_boxes")}
    # Copies: torch warns of read-only arrays, and a view would keep the whole message alive.
    item.update({field.name: np.array(getattr(record, field.name)) for field in ARRAY_FIELDS})
    if isinstance(image, ImageExample):
        item["captions"] = list(image.captions)
        item["caption_ids"] = np.array(image.caption_ids, np.int64)
        item["split"] = image.split
    return item
