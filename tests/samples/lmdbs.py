"""Small LMDB jobs for tests, and their results as VOLTA reads them."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lmdb

from region_features.exports.lmdb import LmdbExport
from tests.samples.exports import export_job
from tests.samples.records import make_record, write_shard
from transforms.exports import ExportJob

TRAIN = [f"COCO_train2014_{number:012d}" for number in (10, 100, 11, 2, 20, 9)]  # in the order of the keys' bytes
VAL = [f"COCO_val2014_{number:012d}" for number in (1, 1000, 105, 3)]


def make_job(folder: Path, digest: str = "d1", form: str = "volta", **options: Any) -> ExportJob:
    """COCO's training and validation images, two shards each, and the output beside them."""
    folder.mkdir(exist_ok=True)
    shards = {}
    for name, ids in (("train2014", TRAIN), ("val2014", VAL)):
        half = len(ids) // 2
        parts = enumerate((ids[:half], ids[half:]))
        shards[name] = tuple(write_set(folder / f"{name}-{part}.tfrecord", some, **options) for part, some in parts)
    return lmdb_job(folder, shards, digest, form)


def lmdb_job(folder: Path, shards: Mapping[str, tuple[str, ...]], digest: str = "d", form: str = "volta") -> ExportJob:
    return export_job(LmdbExport(form), folder, shards, digest)


def write_set(path: Path, ids: list[str], **options: Any) -> str:
    return write_shard(path, [make_record(img_id, **options) for img_id in ids])


def read_as_volta(folder: str) -> dict[bytes, dict[str, str]]:
    """Reads as VOLTA's feature reader does."""
    with (
        lmdb.open(folder, max_readers=1, readonly=True, lock=False, readahead=False, meminit=False) as env,
        env.begin(write=False) as transaction,
    ):
        keys = pickle.loads(transaction.get(b"keys") or b"")
        assert transaction.stat()["entries"] == len(keys) + 1
        return {key: pickle.loads(transaction.get(key) or b"") for key in keys}


def digest_of(folder: str | Path) -> str:
    return hashlib.sha256(Path(folder, "data.mdb").read_bytes()).hexdigest()


def write_lmdb(folder: Path, values: dict[bytes, bytes], form: str | None = None) -> None:
    """Write an LMDB, which says its form if one is given."""
    with lmdb.open(str(folder), map_size=1 << 24) as env, env.begin(write=True) as txn:
        for key, value in values.items():
            txn.put(key, value)
        txn.put(b"keys", pickle.dumps(list(values)))
    if form:
        (folder / "source.json").write_text(json.dumps({"settings": {"lmdb_form": form}}))
