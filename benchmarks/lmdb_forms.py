"""Times the forms of an LMDB on records of full size: bytes on disk, building from shards, reading at random.

Reads are those of RegionFeatures, by image id, each item's arrays copied out: with the file in the system's cache, and
of records that are not (`cold`, what a corpus larger than memory meets; the disk below may have a cache of its own).
The last line reads VOLTA's own form as its reader does: unpickle, and decode the base64 of four arrays. The build rate
is the best of all rounds, the read rates are the medians.

    python -m benchmarks.lmdb_forms --records 1000 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from benchmarks.lmdb_build import generate_shards, run_apart
from region_features.lmdb_store.value_codecs import VALUE_CODECS, VOLTA

_READS = 600


class Rates(NamedTuple):
    """One form in one round: bytes of data.mdb, records/s built, read from the cache and read from the disk."""

    bytes: int
    build: float
    warm: float
    cold: float


def main() -> None:
    """Generates the shards, builds and reads every form in turns, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", help="folder for shards and LMDBs; removed afterwards (default: a temporary one)")
    arguments = parser.parse_args()
    found: dict[str, list[Rates]] = {form: [] for form in VALUE_CODECS}
    volta_reader = []
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        run_apart(generate_shards, folder, arguments.records)
        for _ in range(arguments.rounds):
            for form, rates in found.items():
                size, build = run_apart(partial(_build, form), folder, arguments.records)
                warm = run_apart(partial(_read, form, True), folder, arguments.records)
                cold = run_apart(partial(_read, form, False), folder, arguments.records)
                rates.append(Rates(size, build, warm, cold))
            volta_reader.append(run_apart(_read_as_volta, folder, arguments.records))
    volta = found[VOLTA][0].bytes
    print("| form | kB a record | of volta | built, records/s | read, records/s | read cold, records/s |")
    print("|---|---|---|---|---|---|")
    for form, rates in found.items():
        size = rates[0].bytes
        build = max(rate.build for rate in rates)
        warm, cold = (statistics.median(values) for values in zip(*((r.warm, r.cold) for r in rates), strict=True))
        share = f"{size / arguments.records / 1e3:.0f} | {size / volta:.0%}"
        print(f"| `{form}` | {share} | {build:.0f} | {warm:.0f} | {cold:.0f} |")
    print(f"| `{VOLTA}`, by VOLTA's own reader | | | | {statistics.median(volta_reader):.0f} | |")
    print(f"load {os.getloadavg()[0]:.1f} at the end")


def _path(folder: str, form: str) -> str:
    return os.path.join(folder, f"{form}_feat.lmdb")


def _build(form: str, folder: str, records: int) -> tuple[int, float]:
    from transforms.lmdb import LmdbJob, build_lmdb

    shards = os.path.join(folder, "shards")
    paths = tuple(os.path.join(shards, name) for name in sorted(os.listdir(shards)))
    os.sync()
    start = time.perf_counter()
    # A digest of its own: nothing is skipped.
    result = build_lmdb(LmdbJob(form, _path(folder, form), (paths,), str(start), form))
    return result.bytes, records / (time.perf_counter() - start)


def _read(form: str, cached: bool, folder: str, records: int) -> float:
    from region_features import RegionFeatures

    features = RegionFeatures(_path(folder, form))
    return _rate(_path(folder, form), cached, lambda number: features[str(100_000 + number)], records)


def _read_as_volta(folder: str, records: int) -> float:
    import base64
    import pickle

    import lmdb
    import numpy as np

    path = _path(folder, VOLTA)
    options: dict[str, Any] = {"readonly": True, "lock": False, "readahead": False, "meminit": False, "max_readers": 1}
    environment = lmdb.open(path, **options)

    def read(number: int) -> list[Any]:
        with environment.begin(write=False) as transaction:
            item = pickle.loads(transaction.get(str(100_000 + number).encode()) or b"")
        arrays = (item[name] for name in ("features", "boxes", "cls_prob", "attrs"))
        boxes = int(item["num_boxes"])
        return [np.frombuffer(base64.b64decode(array), np.float32).reshape(boxes, -1) for array in arrays]

    return _rate(path, True, read, records)


def _rate(path: str, cached: bool, read: Callable[[int], Any], records: int) -> float:
    import numpy as np

    with open(os.path.join(path, "data.mdb"), "rb") as stream:
        if cached:
            while stream.read(16 << 20):
                pass
        else:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    reads = min(_READS, records)
    numbers = np.random.default_rng(1).permutation(records)[:reads].tolist()
    if cached:
        for number in numbers:  # maps the pages, and warms the allocator
            read(number)
    start = time.perf_counter()
    for number in numbers:
        read(number)
    return reads / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
