"""How busy the program keeps a network that only waits: decoding, preparing and writing on the real path.

    python -m benchmarks.feeding [--images 1536] [RATE ...]

Each RATE is the images a second that the network takes when it never waits. What is measured is everything else:
`beam_pipeline.pipeline.main` from JPEGs to TFRecord shards with records of full size, batches of a GPU. The first fifth
of the batches is left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

from beam_pipeline.pipeline import main as program
from benchmarks.end_to_end import Batch, steady
from benchmarks.support import full_size_fake
from benchmarks.support.photographs import photographs, write_jpegs
from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import RegionRecord

_RATES = (60.0, 150.0)
_WEIGHTS = Path(__file__).resolve().parents[1] / "tests" / "data" / "tiny.caffemodel"  # checked, never run
_GPU_BATCH = 32


def measure(photos: Path, rate: float) -> tuple[float, float]:
    """Images/s of the program, and the share of the time that its network was busy.

    Raises:
        RuntimeError: the run failed.
        ValueError: it was too short to be timed.
    """
    detect, batches = full_size_fake.CopyingModel.detect, list[Batch]()

    def waiting(self: full_size_fake.CopyingModel, images: Sequence[PreparedImage]) -> list[RegionRecord]:
        records = detect(self, images)
        time.sleep(len(images) / rate)
        batches.append((time.perf_counter(), len(images)))
        return records

    with tempfile.TemporaryDirectory(dir=photos.parent) as folder:
        arguments = ["--images", str(photos), "--weights", str(_WEIGHTS), "--output", str(Path(folder) / "out")]
        arguments += ["--outputs", "tfrecord", "--batch_size", str(_GPU_BATCH)]
        with mock.patch.object(full_size_fake.CopyingModel, "detect", waiting), redirect_stdout(sys.stderr):
            status = program(arguments, full_size_fake.FullSizeHandler(full_size_fake.CopyingModel))
    if status != 0:
        raise RuntimeError(f"expected the program to end with status 0, got {status}; it says why above")
    begin, end, done = steady(batches)
    return done / (end - begin), done / rate / (end - begin)


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rates", nargs="*", type=float, metavar="RATE", default=_RATES, help="default 60 and 150")
    parser.add_argument("--images", type=int, default=1536)
    parser.add_argument("--dir", help="where the input and output go (2 GB; default: the system's)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        photos = Path(folder) / "photos"
        write_jpegs(photos, args.images, photographs([]))
        print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
        print(f"{'network, images/s':>18} {'program, images/s':>18} {'network busy':>13}")
        for rate in args.rates:
            reached, busy = measure(photos, rate)
            print(f"{rate:>18g} {reached:>18.1f} {busy:>13.1%}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
