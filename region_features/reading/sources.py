"""Records by key out of anything that holds records: shards, an LMDB, TSVs, the output folder of a run."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from region_features.formats.tsv import RowPlace, decode_tsv_row, find_rows
from region_features.reading.dataset import RegionFeatures
from region_features.records.key import lmdb_key
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord

# Id, then two numbers: the start of every TSV of regions.
_TSV_ROW = re.compile(rb"[^\t\r\n]{1,512}\t[0-9]{1,9}\t[0-9]{1,9}\t")


class Records(Protocol):
    """Records by LMDB key.

    Attributes:
        kind: what they were read from, in a word.
        keys: LMDB keys of the images, as text.
        left_out: images that cannot be looked up: those that share a key, and damaged rows.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102

    @property
    def keys(self) -> Sequence[str]: ...  # noqa: D102

    @property
    def left_out(self) -> int: ...  # noqa: D102

    def read(self, key: str) -> RegionRecord:
        """Return the record of a key; ValueError or OSError if it cannot be read. Any number of threads may read."""
        ...


def open_records(path: str) -> Records:
    """Open whatever holds records of regions.

    Args:
        path: local: the output folder of a run, a folder of shards, an LMDB's folder, a shard, a TSV, or a glob of
            shards or TSVs.

    Raises:
        FileNotFoundError: nothing of that kind is there.
        ValueError: the path is remote, or what is there is damaged.
        OSError: a file cannot be read.
    """
    paths = [path] if os.path.isfile(path) else sorted(filter(os.path.isfile, glob.glob(path)))
    if paths and _is_tsv(paths[0]):
        return _TsvRecords(paths)
    return _IndexedRecords(RegionFeatures(path))


def _is_tsv(path: str) -> bool:
    with open(path, "rb") as stream:
        return _TSV_ROW.match(stream.read(1024)) is not None


class _IndexedRecords:
    """Shards or an LMDB."""

    kind = "shards or LMDB"

    def __init__(self, features: RegionFeatures) -> None:
        self._features = features
        counts = Counter(features.keys)
        self._positions = {key: place for place, key in enumerate(features.keys) if counts[key] == 1}
        self.keys: Sequence[str] = list(self._positions)
        self.left_out = len(features) - len(self.keys)

    def read(self, key: str) -> RegionRecord:
        item = self._features[self._positions[key]]
        arrays = {field.name: item[field.name] for field in ARRAY_FIELDS}
        return RegionRecord(item["img_id"], item["img_h"], item["img_w"], **arrays)


class _Row(NamedTuple):
    path: str
    place: RowPlace


class _TsvRecords:
    """TSV files, read once from end to end to find the rows; of rows with one key the first counts."""

    kind = "TSV"

    def __init__(self, paths: Sequence[str]) -> None:
        rows: dict[str, _Row] = {}
        self.left_out = 0
        for path in paths:
            with open(path, "rb") as stream:
                for place in find_rows(stream, path):
                    try:
                        if isinstance(place, ValueError):
                            raise place
                        rows.setdefault(lmdb_key(place.img_id).decode(), _Row(path, place))
                    except ValueError as error:
                        self.left_out += 1
                        problem = error
        if not rows:
            raise ValueError(f"{paths[0]}: expected rows of a region TSV, found none: {problem}")
        self._rows: Mapping[str, _Row] = rows
        self.keys: Sequence[str] = list(rows)

    def read(self, key: str) -> RegionRecord:
        path, place = self._rows[key]
        with open(path, "rb") as stream:
            stream.seek(place.offset)
            return decode_tsv_row(stream.read(place.length), f"{path}, line {place.line}")
