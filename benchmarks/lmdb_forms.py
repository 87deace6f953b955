"""Compare the forms of an LMDB on records of full size: bytes on disk, building from shards, random reads.

Reads are `RegionFeatures` by image id, each item's arrays copied: from the system's page cache, and from the disk
(`cold`, as in a corpus larger than memory; the disk may have a cache of its own). The last row reads VOLTA's own form
as VOLTA does: unpickle, and decode the base64 of four arrays. The build rate is the best of all rounds, a read rate is
the median.

    python -m benchmarks.lmdb_forms --records 1000 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from benchmarks.lmdb_build import generate_shards, run_apart
from region_features.lmdb_store.reader import DATA_FILE
from region_features.lmdb_store.value_codecs import SOURCE_FILE, VALUE_CODECS, VOLTA

_READS = 600


class Rates(NamedTuple):
    """One form in one round: bytes of data.mdb, records/s built, read from the page cache and read from the disk."""

    bytes: int
    build: float
    warm: float
    cold: float


def main() -> None:
    """Generate the shards, build and read every form in turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", help="folder for shards and LMDBs; removed afterwards (default: a temporary one)")
    arguments = parser.parse_args()
    measured: dict[str, list[Rates]] = {form: [] for form in VALUE_CODECS}
    volta_reader = []
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        run_apart(generate_shards, folder, arguments.records)
        for _ in range(arguments.rounds):
            for form, rates in measured.items():
                size, build = run_apart(partial(_build, form), folder, arguments.records)
                warm = run_apart(partial(_read, form, True), folder, arguments.records)
                cold = run_apart(partial(_read, form, False), folder, arguments.records)
                rates.append(Rates(size, build, warm, cold))
            volta_reader.append(run_apart(_read_as_volta, folder, arguments.records))
    volta = measured[VOLTA][0].bytes
    print("| form | kB a record | of volta | built, records/s | read, records/s | read cold, records/s |")
    print("|---|---|---|---|---|---|")
    for form, rates in measured.items():
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
    from region_features.exports.base import Sources
    from region_features.exports.lmdb import LmdbExport
    from region_features.records.build_note import BuildNote

    shards = os.path.join(folder, "shards")
    paths = tuple(os.path.join(shards, name) for name in sorted(os.listdir(shards)))
    output = _path(folder, form)
    shutil.rmtree(output, ignore_errors=True)
    os.mkdir(output)
    export = LmdbExport(form)
    (target,) = export.targets(["test2015"], {})
    sources = Sources(output, {"test2015": paths}, sum(map(os.path.getsize, paths)), _read_shard, lambda _: ())
    os.sync()
    start = time.perf_counter()
    counts = export.build(target, sources, output, lambda what, total: None)
    rate = records / (time.perf_counter() - start)
    size = os.path.getsize(os.path.join(output, DATA_FILE))
    with open(os.path.join(output, SOURCE_FILE), "wb") as stream:
        stream.write(BuildNote("", export.settings(), {DATA_FILE: size}, counts, {}).to_json())
    return size, rate


def _read_shard(path: str) -> Iterator[bytes]:
    from region_features.formats.tfrecord import read_records

    with open(path, "rb") as stream:
        yield from read_records(stream, path)


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

    with open(os.path.join(path, DATA_FILE), "rb") as stream:
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
