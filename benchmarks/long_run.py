"""A long run of the whole program, its network a fake: do memory, open files and threads stay flat, and the rate?

    python -m benchmarks.long_run                 # 100,000 small images, as fast as they go
    python -m benchmarks.long_run --minutes 20    # a soak: a network that takes 20 minutes for them

Exit status 1 if the peak of the memory passes 600 MB; of the first, if the last tenth of the images goes more than 10 %
slower than the second; of the second, if memory, files or threads of the last quarter exceed those of the second one
by more than 10 %. What is judged of the rate are images a second of the processor's time, which other programs on the
machine do not change as much as that of the clock; both are printed. Tenths and quarters end with the last image,
before the LMDB is built; the peak is that of the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.memory import make_photos
from benchmarks.support.full_size_fake import keep_pixels
from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import RegionRecord
from transforms.beam_private import ModelHandler
from transforms.detection import detect_each
from transforms.metrics import local_counts
from transforms.shards import IMAGES_WRITTEN

ROOT = Path(__file__).resolve().parents[1]
_PEAK_MB, _TOLERANCE = 600, 0.10
_SIZE = (48, 64)
_BOXES, _FEATURES, _CLASSES, _ATTRIBUTES = 10, 64, 11, 5  # 5 kB a record
_INTERVAL_SECONDS, _SOAK_INTERVAL_SECONDS = 0.5, 5.0


class Sample(NamedTuple):
    """What a process was like at a moment.

    Attributes:
        seconds: since its start, of the clock.
        cpu_seconds: of the processor, all threads together.
        written: images so far.
        memory_mb: resident.
        files: open ones.
        threads: of the system.
    """

    seconds: float
    cpu_seconds: float
    written: int
    memory_mb: float
    files: int
    threads: int


@dataclass(frozen=True)
class SmallModel:
    """A fake network: every record has the same numbers; it takes a given time an image."""

    record: RegionRecord
    seconds: float

    def detect(self, images: Sequence[PreparedImage]) -> list[RegionRecord]:
        """Return a record an image."""
        time.sleep(self.seconds * len(images))
        return [replace(self.record, img_id=image.img_id, img_h=image.height, img_w=image.width) for image in images]


class SmallHandler(ModelHandler):
    """Run a SmallModel in Beam's inference."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def load_model(self) -> SmallModel:
        """Make the fake."""
        rng = np.random.default_rng(0)
        cls_prob, attrs = rng.random((_BOXES, _CLASSES), np.float32), rng.random((_BOXES, _ATTRIBUTES), np.float32)
        record = RegionRecord(
            img_id="",
            img_h=2,
            img_w=2,
            objects_id=cls_prob[:, 1:].argmax(1),
            objects_conf=cls_prob[:, 1:].max(1),
            attrs_id=attrs[:, 1:].argmax(1),
            attrs_conf=attrs[:, 1:].max(1),
            boxes=np.sort(rng.random((_BOXES, 2, 2), np.float32), axis=1).reshape(_BOXES, 4),
            features=rng.random((_BOXES, _FEATURES), np.float32),
            cls_prob=cls_prob,
            attrs=attrs,
        )
        return SmallModel(record, self._seconds)

    def run_inference(self, batch: Sequence[Any], model: Any, inference_args: dict[str, Any] | None = None) -> Iterable:
        """Return a record an example."""
        return detect_each(model.detect, batch)

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        """Return 0: counting would cost time."""
        return 0


def _status_kb(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def sample(began: float) -> Sample:
    """Return what this process is like now."""
    written = local_counts().get(IMAGES_WRITTEN, 0)
    files, threads = len(os.listdir("/proc/self/fd")), _status_kb("Threads")
    return Sample(time.monotonic() - began, time.process_time(), written, _status_kb("VmRSS") / 1024, files, threads)


def run_once(photos: Path, weights: str, seconds: float, interval: float) -> None:
    """Run the program in this process, and print a line of JSON: its status, its peak in MB, the samples."""
    from beam_pipeline.pipeline import main as run_program

    samples: list[Sample] = []
    ended = threading.Event()
    began = time.monotonic()

    def watch() -> None:
        while not ended.wait(interval):
            samples.append(sample(began))

    watching = threading.Thread(target=watch)
    watching.start()
    flags = ["--images", str(photos), "--weights", weights, "--output", str(photos.parent / "out"), "--device", "cpu"]
    try:
        status = run_program(flags, SmallHandler(seconds), keep_pixels)
    finally:
        ended.set()
        watching.join()
    # The kernel counts pages in batches, so that a sample may be a little over its own peak.
    peak = max(_status_kb("VmHWM") / 1024, *(taken.memory_mb for taken in samples), 0.0)
    print(json.dumps({"status": status, "peak_mb": peak, "samples": samples}))


def measure(count: int, minutes: float, weights: str, folder: Path) -> tuple[float, list[Sample]]:
    """Return the peak in MB and the samples up to the last image, of a run in a process of its own.

    Raises:
        RuntimeError: the run failed.
    """
    make_photos(folder / "photos", count, _SIZE)
    interval = _SOAK_INTERVAL_SECONDS if minutes else _INTERVAL_SECONDS
    child = ["--once", str(folder / "photos"), str(60 * minutes / count), str(interval), "--weights", weights]
    command = [sys.executable, "-m", "benchmarks.long_run", *child]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        answer = {"status": done.returncode}
    if answer["status"] != 0:
        raise RuntimeError(f"{' '.join(command)} failed with status {answer['status']}")
    samples = [Sample(*row) for row in answer["samples"]]
    last = next((i for i, taken in enumerate(samples) if taken.written == count), len(samples))
    return answer["peak_mb"], samples[: last + 1]


def rates(samples: Sequence[Sample], count: int) -> list[tuple[float, float]]:
    """Return images a second of each tenth of the images: of the clock, and of the processor."""
    written = [taken.written for taken in samples]
    bounds = np.linspace(0, count, 11)
    bounds[0] = 1  # what comes before the first image is no part of the rate
    clock, cpu = (np.interp(bounds, written, [taken[column] for taken in samples]) for column in (0, 1))
    return [(count / 10 / a, count / 10 / b) for a, b in zip(np.diff(clock), np.diff(cpu), strict=True)]


def growth(samples: Sequence[Sample]) -> dict[str, tuple[float, float]]:
    """Return the medians of memory, open files and threads in the second quarter of the time and in the last."""
    at_work = [taken for taken in samples if taken.written]
    quarter = len(at_work) // 4
    if not quarter:
        raise ValueError(f"expected at least 4 samples of a run at work, got {len(at_work)}; run it for longer")
    quarters = at_work[quarter : 2 * quarter], at_work[-quarter:]
    columns = {"memory in MB": 3, "open files": 4, "threads": 5}
    return {
        name: (median(taken[i] for taken in quarters[0]), median(taken[i] for taken in quarters[1]))
        for name, i in columns.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=0, help="of a soak: time that the network takes")
    parser.add_argument("--weights", default=str(ROOT / "tests/data/tiny.caffemodel"), help="any; not run")
    parser.add_argument("--dir", help="where input and output go (2 GB; default: the system's)")
    parser.add_argument("--once", nargs=3, metavar=("PHOTOS", "SECONDS", "INTERVAL"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.once:
        run_once(Path(args.once[0]), args.weights, float(args.once[1]), float(args.once[2]))
        return 0
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        peak, samples = measure(args.images, args.minutes, args.weights, Path(folder))
    print(f"peak {peak:.0f} MB, allowed {_PEAK_MB} MB")
    good = peak <= _PEAK_MB
    if args.minutes:
        for name, (before, after) in growth(samples).items():
            print(f"{name}: {before:.0f} in the second quarter, {after:.0f} in the last")
            good &= after <= before * (1 + _TOLERANCE)
        return 0 if good else 1
    tenths = rates(samples, args.images)
    print(f"{'tenth':>5} {'images/s':>10} {'images/s of the processor':>26}")
    for number, (clock, cpu) in enumerate(tenths, start=1):
        print(f"{number:>5} {clock:>10.0f} {cpu:>26.0f}")
    return 0 if good and tenths[-1][1] >= tenths[1][1] * (1 - _TOLERANCE) else 1


if __name__ == "__main__":
    sys.exit(main())
