"""Compare the detector's speed and exactness with those of a straight port and of detectron2's own modules.

    python -m benchmarks.full_size_weights full.caffemodel
    python -m benchmarks.detector full.caffemodel [IMAGE ...] [--device cuda --precision float32 tf32 bfloat16 float16]
        [--write docs/performance.md]

All sides run in this process and take turns on every image, or on every batch if --batch is more than 1; the port and
detectron2 process a batch image by image, in float32. Rates are the median and the best over rounds and turns, ratios
the median over rounds. A turn goes from prepared pixels to arrays on the host. Peak memory is that of a process with
one side only, on a GPU that of its tensors. "The program" is the whole pipeline from JPEGs to TFRecords. On a GPU the
last column is the arithmetic rate as a share of the rate of matrix products in the same precision, and for the program
the share of time in which the GPU was busy. Without images scikit-image's photographs are used.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.deviation import Deviation, Regions, deviation, together
from benchmarks.gpu import matmul_rate
from benchmarks.support.child import answer_of
from benchmarks.support.detector_sides import EAGER, LABELS, PORT, Run, load_side, turns
from benchmarks.support.marked_table import Row, Table, markdown, names_in, write
from region_features.detector.device import choose_device
from region_features.records.prepared_image import PreparedImage
from region_features.records.settings import FLOAT32, PRECISIONS

SPEED, EXACTNESS = "detector speed", "detector deviation"
SPEED_HEADER = (
    "what", "measured on", "images/s", "best", "times the port", "times detectron2", "peak memory", "GPU used",
)  # fmt: skip
EXACTNESS_HEADER = (
    "compared", "measured on", "same boxes", "boxes kept by both", "box, px", "probability", "feature",
    "feature, relative", "mean, relative",
)  # fmt: skip
_SHORT_LABELS = {PORT: "the straight port"}
Turns = list[list[PreparedImage]]
Seconds = dict[str, NDArray[np.float64]]  # by side: seconds of an image, (rounds, turns)


@dataclass(frozen=True)
class Exactness:
    """Result of one pass over all images.

    Attributes:
        deviations: (side, reference) -> their deviation.
        flops: side -> floating-point operations of a mean image, for the port and detectron2.
    """

    deviations: dict[tuple[str, str], Deviation]
    flops: dict[str, float]


def measured_on(device: str, threads: int) -> str:
    """Return the machine's name for a table: its GPU, or its processor and the number of threads used."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {threads} threads"


def _deviation(images: Sequence[Regions], reference: Sequence[Regions]) -> Deviation:
    return together([deviation(*pair) for pair in zip(images, reference, strict=True)])


def compare(sides: dict[str, Run], batches: Turns) -> Exactness:
    """Run every side once over all images, which also warms them up.

    Raises:
        ValueError: an image gives no record.
    """
    outputs, flops = {}, {}
    for side, run in sides.items():
        # Not over this detector: under a counter its fused operations may take another path.
        counter = FlopCounterMode(display=False) if side in (PORT, EAGER) else nullcontext()
        with counter:
            outputs[side] = [record for photos in batches for record in run(photos)]
        if isinstance(counter, FlopCounterMode):
            flops[side] = counter.get_total_flops() / len(outputs[side])
        for record in outputs[side]:
            if isinstance(record, Exception):
                raise ValueError(f"{LABELS[side]}: expected a record of every image, got: {record}")
    photos = [photo for batch in batches for photo in batch]
    exact, deviations = outputs[FLOAT32], {(FLOAT32, PORT): _deviation(outputs[FLOAT32], outputs[PORT])}
    for side in [side for side in outputs if side not in (PORT, EAGER, FLOAT32)]:
        # Numbers are compared on float32's boxes: other boxes have other numbers.
        given = [replace(photo, boxes=record.boxes) for photo, record in zip(photos, exact, strict=True)]
        kept, numbers = _deviation(outputs[side], exact), _deviation(sides[side](given), exact)
        deviations[side, FLOAT32] = replace(numbers, same_boxes=kept.same_boxes, kept=kept.kept, box=kept.box)
    return Exactness(deviations, flops)


def measure(sides: dict[str, Run], batches: Turns, rounds: int) -> Seconds:
    """Measure the seconds of an image: every turn runs all sides, one after the other."""
    seconds = {side: np.empty((rounds, len(batches))) for side in sides}
    for number in range(rounds):
        for turn, photos in enumerate(batches):
            for side, run in sides.items():
                began = time.perf_counter()
                run(photos)
                seconds[side][number, turn] = (time.perf_counter() - began) / len(photos)
    return seconds


def _ratio(seconds: Seconds, side: str, other: str) -> str:
    return f"{np.median(seconds[other].sum(axis=1) / seconds[side].sum(axis=1)):.2f}"


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"


def speed_rows(seconds: Seconds, machine: str, peaks: dict[str, float], used: dict[str, str]) -> list[Row]:
    """Return the rows of the sides; `used` is empty on a CPU."""
    rows: list[Row] = []
    for side, times in seconds.items():
        rates = 1 / times
        ratios = ["1" if side == other else _ratio(seconds, side, other) for other in (PORT, EAGER)]
        figures = (f"{np.median(rates):.3g}", f"{rates.max():.3g}", *ratios, _megabytes(peaks[side]))
        rows.append((LABELS[side], machine, *figures, used.get(side, "")))
    return rows


def in_processes(options: argparse.Namespace, sides: Sequence[str]) -> tuple[dict[str, float], dict[str, dict]]:
    """Measure in processes of their own the peak bytes of each side, and the program in each precision.

    Raises:
        RuntimeError: one of them failed.
    """
    images = [str(Path(path).resolve()) for path in options.images]
    shared = ["--device", options.device, "--threads", str(options.threads)]
    weights, batch, count = str(Path(options.weights).resolve()), str(options.batch), str(options.program_images)
    peaks, programs = {}, {}
    for side in sides:
        peaks[side] = answer_of("benchmarks.support.detector_sides", weights, side, *images, *shared, "--batch", batch)[
            "peak"
        ]
        if side not in (PORT, EAGER) and options.program_images:
            chosen = ("--precision", side, "--images", count)
            programs[side] = answer_of("benchmarks.end_to_end", weights, *images, *shared, *chosen)
    return peaks, programs


def program_rows(programs: dict[str, dict], machine: str) -> list[Row]:
    """Return the rows of the whole program."""
    rows: list[Row] = []
    for precision, program in programs.items():
        busy = "" if program["busy"] is None else f"busy {program['busy']:.0%} of the time"
        figures = (f"{program['rate']:.3g}", "", "", "", _megabytes(program["peak"]), busy)
        rows.append((f"the program, {precision}", machine, *figures))
    return rows


def exactness_rows(deviations: dict[tuple[str, str], Deviation], machine: str) -> list[Row]:
    """Return a row for each comparison."""
    rows: list[Row] = []
    for (side, other), apart in deviations.items():
        shares = (f"{apart.same_boxes:.0%}", f"{apart.kept:.1%}")
        numbers = (apart.box, apart.probability, apart.feature, apart.relative, apart.mean)
        figures = (f"{number:.1e}" for number in numbers)
        rows.append((f"{side} with {_SHORT_LABELS.get(other, other)}", machine, *shares, *figures))
    return rows


def run(options: argparse.Namespace) -> list[Table]:
    """Measure everything that was asked for.

    Raises:
        ValueError, OSError: the weights, an image or a precision cannot be used.
        RuntimeError: a process that measures failed.
    """
    torch.set_num_threads(options.threads)
    batches = turns(options.images, options.batch)
    chosen = [name for name in PRECISIONS if name == FLOAT32 or name in options.precision]
    sides = {side: load_side(side, options.weights, options.device) for side in (PORT, EAGER, *chosen)}
    peaks, programs = in_processes(options, list(sides))
    exactness = compare(sides, batches)
    flops = exactness.flops
    print(f"GMACs an image: straight port {flops[PORT] / 2e9:.1f}, detectron2's modules {flops[EAGER] / 2e9:.1f}")
    seconds = measure(sides, batches, options.rounds)
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    print(f"{len(batches)} turns of {options.batch} images, {options.rounds} rounds; load average {load}")
    machine = measured_on(options.device, options.threads)
    used = {}
    if options.device == "cuda":
        for side in seconds:
            rate = flops[PORT] * float(np.median(1 / seconds[side]))
            used[side] = f"{rate / matmul_rate(FLOAT32 if side in (PORT, EAGER) else side):.0%} of a matmul"
    rows = [*speed_rows(seconds, machine, peaks, used), *program_rows(programs, machine)]
    return [
        Table(SPEED, SPEED_HEADER, rows),
        Table(EXACTNESS, EXACTNESS_HEADER, exactness_rows(exactness.deviations, machine)),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables, and write them into the files of --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("images", nargs="*")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=[FLOAT32], help="beside float32")
    parser.add_argument("--threads", type=int, default=2, help="of the processor")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, help="images of a turn; default 1 on a CPU, 8 on a GPU")
    parser.add_argument("--program_images", type=int, help="of the program's row; default none on a CPU, 1000 on a GPU")
    parser.add_argument("--write", nargs="+", default=[], metavar="FILE", help="files that hold the tables")
    options = parser.parse_args(argv)
    on_gpu = options.device == "cuda"
    if options.batch is None:
        options.batch = 8 if on_gpu else 1
    if options.program_images is None:
        options.program_images = 1000 if on_gpu else 0
    try:
        choose_device(options.device)
        for name in options.write:
            names_in(Path(name), (SPEED, EXACTNESS))
        tables = run(options)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    for table in tables:
        print(f"\n{markdown(table.header, table.rows)}")
    for name in options.write:
        write(Path(name), tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
