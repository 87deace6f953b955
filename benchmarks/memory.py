"""Peak memory of the whole run with 250 and with 2,000 images, records of full size, a fake detector.

    python -m benchmarks.memory

The graph keeps pixels and features inside their bundle, so the two may differ by 300 MB at most; exit status 1 if not.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ALLOWED_MB = 300
_SMALL, _LARGE = 250, 2000
_DISTINCT = 10


def make_photos(folder: Path, count: int, size: tuple[int, int] = (480, 640)) -> None:
    """Write JPEGs of that height and width: links to a few distinct ones, since only their number matters."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(count):
        path = folder / f"photo_{number:06d}.jpg"
        if number < _DISTINCT:
            blocks = (size[0] // 10 + 1, size[1] // 10 + 1, 3)
            pixels = rng.integers(1, 255, blocks, dtype=np.uint8).repeat(10, 0).repeat(10, 1)[: size[0], : size[1]]
            Image.fromarray(pixels).save(path)
        else:
            os.link(folder / f"photo_{number % _DISTINCT:06d}.jpg", path)


def run_once(photos: str, weights: str) -> None:
    """The program in this process; prints images/s and the peak in MB."""
    from beam_pipeline.pipeline import main
    from benchmarks.support.full_size_fake import FullSizeHandler, keep_pixels

    count = len(os.listdir(photos))
    with tempfile.TemporaryDirectory(dir=os.path.dirname(photos)) as out:
        flags = ["--images", photos, "--weights", weights, "--output", out, "--device", "cpu"]
        began = time.perf_counter()
        status = main(flags, FullSizeHandler(), keep_pixels)
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"RESULT {status} {count / seconds:.1f} {peak:.0f}")


def measure(photos: Path, weights: str) -> tuple[float, float]:
    """Images/s and peak MB of a run in a process of its own.

    Raises:
        RuntimeError: the run failed.
    """
    command = [sys.executable, "-m", "benchmarks.memory", "--weights", weights, "--once", str(photos)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    words = done.stdout.split("RESULT ")[-1].split()
    if len(words) != 3 or words[0] != "0":
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return float(words[1]), float(words[2])


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="tests/data/tiny.caffemodel", help="any weights file; it is not run")
    parser.add_argument("--dir", help="where the input and output go (5 GB; default: the system's)")
    parser.add_argument("--once", metavar="PHOTOS", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        run_once(args.once, args.weights)
        return 0
    peaks = []
    print(f"{'images':>8} {'images/s':>10} {'peak MB':>9}")
    for count in (_SMALL, _LARGE):
        with tempfile.TemporaryDirectory(dir=args.dir) as folder:
            photos = Path(folder) / "photos"
            make_photos(photos, count)
            rate, peak = measure(photos, args.weights)
        peaks.append(peak)
        print(f"{count:>8} {rate:>10.1f} {peak:>9.0f}", flush=True)
    growth = peaks[1] - peaks[0]
    print(f"growth {growth:.0f} MB, allowed {ALLOWED_MB} MB")
    return 0 if growth <= ALLOWED_MB else 1


if __name__ == "__main__":
    sys.exit(main())
