"""Time and memory of a report: `python -m benchmarks.report [RECORDS]`; full-size records, one shard over and over.

The shard stays in the page cache, so that what is measured is the work and not the disk: 0.59 MB a record come on top.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from region_features.exports.base import Sources
from region_features.exports.report import ReportExport
from region_features.formats.example import ImageExample, encode_example
from region_features.formats.tfrecord import write_record
from region_features.records.region_record import RegionRecord
from transforms.shards import read_shard

BOXES, WIDTH, OBJECTS, ATTRIBUTES = 36, 2048, 1600, 400
IN_SHARD = 250


def write_sample(path: Path) -> None:
    """Write a shard of random records as wide as the real network's, with five captions each."""
    rng = np.random.default_rng(0)
    with path.open("wb") as stream:
        for number in range(IN_SHARD):
            corners = np.sort(rng.random((BOXES, 2, 2), np.float32), axis=1).reshape(BOXES, 4)
            record = RegionRecord(
                img_id=f"COCO_train2014_{number:012d}",
                img_h=480,
                img_w=640,
                objects_id=rng.integers(0, OBJECTS, BOXES),
                objects_conf=rng.random(BOXES, np.float32),
                attrs_id=rng.integers(0, ATTRIBUTES, BOXES),
                attrs_conf=rng.random(BOXES, np.float32),
                boxes=corners * np.array([640, 480, 640, 480], np.float32),
                features=rng.standard_normal((BOXES, WIDTH), np.float32).clip(0),
                cls_prob=rng.random((BOXES, OBJECTS + 1), np.float32),
                attrs=rng.random((BOXES, ATTRIBUTES + 1), np.float32),
            )
            captions = ("A caption of some words on a picture.",) * 5
            example = ImageExample(record, f"{record.img_id}.jpg", "0" * 64, captions, tuple(range(5)), "train")
            write_record(stream, encode_example(example))


def main(argv: list[str]) -> int:
    """Print a table of records, seconds, records a second, peak memory."""
    total = int(argv[0]) if argv else 20_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train2014-00000-of-00001.tfrecord")
        write_sample(path)
        shards = (str(path),) * (total // IN_SHARD)
        sources = Sources("out", {"train2014": shards}, 0, read_shard, lambda shard: ())
        (target,) = ReportExport().targets(["train2014"], {})
        began = time.monotonic()
        print("| records | seconds | records/s | peak MB |\n|---|---|---|---|")
        ReportExport().build(target, sources, folder, rows_every(total // 4, began))
        seconds = time.monotonic() - began
        size = Path(folder, "index.html").stat().st_size
        print(f"\nwhole page: {seconds:.1f} s, {size / 1e6:.2f} MB without pictures")
    return 0


def rows_every(step: int, began: float) -> Callable[[str, int], None]:
    """Return what prints a row of the table after each `step` records."""
    nexts: Iterator[int] = iter(range(step, 10**9, step))
    due = next(nexts)

    def on_progress(_: str, done: int) -> None:
        nonlocal due
        if done >= due:
            due = next(nexts)
            seconds = time.monotonic() - began
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
            print(f"| {done} | {seconds:.1f} | {done / seconds:.0f} | {peak:.0f} |", flush=True)

    return on_progress


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
