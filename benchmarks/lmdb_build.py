"""Times the LMDB builder on records of full size against a plain rewriting of the older two scripts.

The older way merges the groups' TSV files into one and drops duplicates (csv), then converts that into an LMDB (csv,
one transaction, a sparse writable map). Both ways do all the records, in turns, each turn in a process of its own,
whose peak memory is printed; before each turn all that was written goes to the disk.

    python -m benchmarks.lmdb_build --records 1000 --rounds 3
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from region_features.records.region_record import RegionRecord

_SHARD_RECORDS = 256
_GROUPS = 8
_SHARDS = "shards"
_TSV = "old.tsv.{}"
T = TypeVar("T")


@dataclass(frozen=True)
class Timing:
    """One way's result: records, seconds, bytes of the LMDB, memory in KiB before the work and at its peak."""

    records: int
    seconds: float
    bytes: int
    before_kib: int
    peak_kib: int


def main() -> None:
    """Generates the input, times both ways and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--dir", help="folder for the input and the LMDBs; removed afterwards (default: a temporary one)"
    )
    arguments = parser.parse_args()
    ways = {"merge + convert": _time_old, "this builder": _time_new}
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        run_apart(generate_shards, folder, arguments.records)
        run_apart(_generate_tsvs, folder, arguments.records)
        rounds = [_round(ways, folder, arguments.records) for _ in range(arguments.rounds)]
    print(f"{'way':16}{'records':>8}{'seconds':>9}{'records/s':>11}{'MB/s':>8}{'MiB before':>12}{'MiB peak':>10}")
    for timings in rounds:
        for name, timing in timings.items():
            rate, speed = timing.records / timing.seconds, timing.bytes / timing.seconds / 1e6
            memory = f"{timing.before_kib / 1024:12.0f}{timing.peak_kib / 1024:10.0f}"
            print(f"{name:16}{timing.records:8}{timing.seconds:9.2f}{rate:11.1f}{speed:8.1f}{memory}")
    ratios = [f"{timings['merge + convert'].seconds / timings['this builder'].seconds:.1f}" for timings in rounds]
    print(f"ratios of records/s, round by round: {', '.join(ratios)}; load {os.getloadavg()[0]:.1f} at the end")


def _round(ways: Mapping[str, Callable[[str, int], Timing]], folder: str, records: int) -> dict[str, Timing]:
    timings = {}
    for name, way in ways.items():
        os.sync()
        timings[name] = run_apart(way, folder, records)
    return timings


def run_apart(work: Callable[..., T], *arguments: Any) -> T:
    """Run `work` in a fresh process, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def full_size_records(count: int) -> Iterator[RegionRecord]:
    """Gives seeded random records of 36 boxes in the full network's widths, in LMDB key order."""
    import numpy as np

    from region_features.records.region_record import RegionRecord

    random = np.random.default_rng(2015)
    boxes = 36
    for number in range(count):
        yield RegionRecord(
            img_id=f"COCO_test2015_{100000 + number:012d}",
            img_h=480,
            img_w=640,
            objects_id=random.integers(0, 1600, boxes),
            objects_conf=random.random(boxes, dtype=np.float32),
            attrs_id=random.integers(0, 400, boxes),
            attrs_conf=random.random(boxes, dtype=np.float32),
            boxes=random.random((boxes, 4), dtype=np.float32) * 480,
            features=random.random((boxes, 2048), dtype=np.float32),
            cls_prob=random.random((boxes, 1601), dtype=np.float32),
            attrs=random.random((boxes, 401), dtype=np.float32),
        )


def generate_shards(folder: str, records: int) -> None:
    """Writes full-size records into the shards of `folder`/shards."""
    from region_features.formats.example import ImageExample, encode_example
    from region_features.formats.tfrecord import write_record

    os.mkdir(os.path.join(folder, _SHARDS))
    for number, record in enumerate(full_size_records(records)):
        path = os.path.join(folder, _SHARDS, f"test2015-{number // _SHARD_RECORDS:05d}.tfrecord")
        with open(path, "ab") as shard:
            write_record(shard, encode_example(ImageExample(record, f"{record.img_id}.jpg", f"{number:064x}")))


def _generate_tsvs(folder: str, records: int) -> None:
    from region_features.formats.volta import record_to_strings

    for number, record in enumerate(full_size_records(records)):
        path = os.path.join(folder, _TSV.format(number * _GROUPS // records))
        with open(path, "a", encoding="ascii", newline="") as table:
            table.write("\t".join(record_to_strings(record).values()) + "\r\n")


def _time_new(folder: str, records: int) -> Timing:
    from region_features.exports.lmdb import LmdbExport
    from transforms.exports import ExportJob, build_export

    shards = os.path.join(folder, _SHARDS)
    paths = tuple(os.path.join(shards, name) for name in sorted(os.listdir(shards)))
    export = LmdbExport()
    (target,) = export.targets(["test2015"], {})
    job = ExportJob(export, target, os.path.join(folder, "out"), {"test2015": paths}, None, "0")
    before, start = _peak_kib(), time.perf_counter()
    row = build_export(job, lambda what, count: None).row
    seconds = time.perf_counter() - start
    shutil.rmtree(job.output)
    if row["records"] != records:
        raise ValueError(f"expected {records} records, got {row['records']}")
    return Timing(records, seconds, sum(row["files"].values()), before, _peak_kib())


def _time_old(folder: str, records: int) -> Timing:
    import csv
    import pickle
    import sys

    import lmdb

    from region_features.records.region_record import FIELD_NAMES

    csv.field_size_limit(sys.maxsize)
    merged, output = os.path.join(folder, "merged.tsv"), os.path.join(folder, "old_feat.lmdb")
    before, start = _peak_kib(), time.perf_counter()
    _merge_tsv([os.path.join(folder, _TSV.format(group)) for group in range(_GROUPS)], merged)
    keys = []
    environment = lmdb.open(output, map_size=1 << 36, writemap=True)
    with environment.begin(write=True) as transaction, open(merged, newline="") as table:
        for row in csv.DictReader(table, FIELD_NAMES, delimiter="\t"):
            keys.append(str(int(row["img_id"].split("_")[-1])).encode())
            transaction.put(keys[-1], pickle.dumps(row))
        transaction.put(b"keys", pickle.dumps(keys))
    environment.close()
    seconds = time.perf_counter() - start
    if len(keys) != records:
        raise ValueError(f"expected {records} records, got {len(keys)}")
    num_bytes = os.stat(os.path.join(output, "data.mdb")).st_blocks * 512
    shutil.rmtree(output)
    os.remove(merged)
    return Timing(records, seconds, num_bytes, before, _peak_kib())


def _merge_tsv(paths: list[str], merged: str) -> None:
    import csv

    from region_features.records.region_record import FIELD_NAMES

    seen = set()
    with open(merged, "w", newline="") as target:
        writer = csv.DictWriter(target, FIELD_NAMES, delimiter="\t")
        for path in paths:
            with open(path, newline="") as table:
                for row in csv.DictReader(table, FIELD_NAMES, delimiter="\t"):
                    if row["img_id"] not in seen:
                        seen.add(row["img_id"])
                        writer.writerow(row)


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
