"""How long the network waits at the ends of bundles: 1 to 4 shards a bundle, one or two bundles at a time.

    python -m benchmarks.bundles [--rate 40 --shards 8]

The two steps around the network are the program's own, from JPEGs to published shards with records of full size; the
network is a fake that only waits. A bundle begins and ends as the engines begin and end it: Flink gives each slot all
its shards in one, Dataflow often one shard. Two bundles at a time share the network, as the slots or threads of one
worker process do.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

from benchmarks.support.full_size_fake import CopyingModel
from benchmarks.support.photographs import photographs, write_jpegs
from region_features.images.batches import ImageBatch
from region_features.planning.cut import IMAGES_PER_SHARD
from region_features.records.item import CaptionedImage
from region_features.records.plan import ImageRef, ShardKey
from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import RegionRecord
from region_features.records.settings import PIXEL_LIMIT
from transforms.detection import detect_each, prepare
from transforms.images import _LoadShard
from transforms.input_files import find_states
from transforms.shards import _WriteShard

_GPU_BATCH = 32
_DECODE_MEMORY = 1 << 30
_LARGEST_BUNDLE = 4
Shard = tuple[ShardKey, list[CaptionedImage]]


class WaitingModel(CopyingModel):
    """One network, which takes turns and so many images a second.

    Attributes:
        seconds: it has worked.
        began: when it got its first batch.
        ended: when it gave its last one back.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self._rate, self._turn = rate, threading.Lock()
        self.seconds, self.began, self.ended = 0.0, 0.0, 0.0

    def detect(self, images: Sequence[PreparedImage]) -> list[RegionRecord]:
        """Return a record an image, when the time of the batch is over."""
        with self._turn:
            began = time.perf_counter()
            records = super().detect(images)
            time.sleep(max(0.0, began + len(images) / self._rate - time.perf_counter()))
            self.ended = time.perf_counter()
            self.began = self.began or began
            self.seconds += self.ended - began
        return records


def shards_of(folder: Path, count: int) -> list[Shard]:
    """Cut a folder of JPEGs into shards."""
    paths = sorted(map(str, folder.iterdir()))
    refs = [ImageRef("photos", Path(uri).stem, uri, *state) for uri, state in find_states(paths)]
    return [
        (
            ShardKey("photos", number, count, IMAGES_PER_SHARD),
            [CaptionedImage(ref, None) for ref in refs[number * IMAGES_PER_SHARD : (number + 1) * IMAGES_PER_SHARD]],
        )
        for number in range(count)
    ]


def work(bundles: SimpleQueue[list[Shard]], model: WaitingModel, output: str) -> None:
    """Take one bundle after the other, as one thread of a worker does."""
    load = _LoadShard(output, prepare, PIXEL_LIMIT, lambda: _GPU_BATCH, exif=False, decode_memory=_DECODE_MEMORY)
    write = _WriteShard(output, {})
    load.setup()

    def infer(batches: Iterable[ImageBatch]) -> None:
        for batch in batches:
            results = detect_each(model.detect, [example for _, example in batch])
            for (item, _), result in zip(batch, results, strict=True):
                list(write.process((item, result)))

    while True:
        try:
            bundle = bundles.get_nowait()
        except Empty:
            break
        load.start_bundle()
        write.start_bundle()
        for shard in bundle:
            infer(load.process(shard))
        infer(windowed.value for windowed in load.finish_bundle())
        list(write.finish_bundle())
    load.teardown()
    write.teardown()


def measure(shards: Sequence[Shard], rate: float, shards_a_bundle: int, at_a_time: int) -> float:
    """Return the share of the time from its first batch to its last that the network works."""
    bundles: SimpleQueue[list[Shard]] = SimpleQueue()
    for start in range(0, len(shards), shards_a_bundle):
        bundles.put(list(shards[start : start + shards_a_bundle]))
    model = WaitingModel(rate)
    with tempfile.TemporaryDirectory(dir=Path(shards[0][1][0].ref.uri).parents[1]) as output:
        threads = [threading.Thread(target=work, args=(bundles, model, output)) for _ in range(at_a_time)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        whole = len([name for name in os.listdir(output) if name.endswith(".tfrecord")])
    if whole != len(shards):
        raise RuntimeError(f"expected {len(shards)} shards, found {whole}")
    return model.seconds / (model.ended - model.began)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=40.0, help="images a second of the network")
    parser.add_argument("--shards", type=int, default=8, help=f"of {IMAGES_PER_SHARD} images")
    parser.add_argument("--dir", help="where the input and output go (2 GB; default: the system's)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        photos = Path(folder) / "photos"
        write_jpegs(photos, args.shards * IMAGES_PER_SHARD, photographs([]))
        shards = shards_of(photos, args.shards)
        print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; {args.rate:g} images/s")
        print(f"{'shards a bundle':>16} {'network busy':>13} {'two at a time':>14}")
        for size in (1, 2, _LARGEST_BUNDLE):
            alone, shared = (measure(shards, args.rate, size, at_a_time) for at_a_time in (1, 2))
            print(f"{size:>16} {alone:>13.1%} {shared:>14.1%}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
