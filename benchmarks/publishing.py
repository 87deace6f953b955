"""What it costs to wait for the disk: shards of 256 full-size records, published with and without.

    python -m benchmarks.publishing --shards 5 --dir DIR

Both sides take turns, and nothing else is computed meanwhile: within a run, the network works on the next shard.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from benchmarks.support.full_size_fake import random_record
from region_features.planning.cut import IMAGES_PER_SHARD
from region_features.records.item import CaptionedImage, ImageItem
from region_features.records.plan import ImageRef, ShardKey
from transforms.shards import ShardWriter


def write_shard(folder: str, number: int) -> tuple[float, float]:
    """Write and publish a shard; return the seconds of both together, and of publishing alone."""
    rng = np.random.default_rng(number)
    writer = ShardWriter(ShardKey("photos", number, 1000, IMAGES_PER_SHARD), folder, {})
    began = time.perf_counter()
    for image in range(IMAGES_PER_SHARD):
        ref = ImageRef("photos", f"{number}_{image:03d}", f"photos/{number}_{image:03d}.jpg", 1)
        item = ImageItem(writer.key, CaptionedImage(ref, None), "")
        writer.add(item, random_record(ref.img_id, 480, 640, rng))
    publishing = time.perf_counter()
    writer.publish().result()
    end = time.perf_counter()
    return end - began, end - publishing


@contextmanager
def without_waiting() -> Iterator[None]:
    """Let no file wait for the disk."""
    fsync = os.fsync
    os.fsync = lambda _: None  # type: ignore[assignment]
    try:
        yield
    finally:
        os.fsync = fsync


def main(argv: Sequence[str] | None = None) -> int:
    """Write the shards; print the median of each side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=5, help="on each side")
    parser.add_argument("--dir", help="folder on the disk to measure; default: the system's temporary folder")
    args = parser.parse_args(argv)
    waiting, plain = [], []
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        for number in range(args.shards):
            waiting.append(write_shard(folder, 2 * number))
            with without_waiting():
                plain.append(write_shard(folder, 2 * number + 1))
            os.sync()  # what one side left over is not the other's work
        size = max(os.stat(entry).st_size for entry in os.scandir(folder))
    for side, seconds in (("on the disk", waiting), ("without waiting", plain)):
        whole, publishing = (statistics.median(column) for column in zip(*seconds, strict=True))
        print(f"{side}: {whole:.2f} s a shard of {size / 1e6:.0f} MB, {publishing:.2f} s of it to publish it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
