"""Times every export on records of full size against a plain copy of the same bytes.

Each export builds its targets from the same shards, in turns with the others, each turn in a process of its own, whose
peak memory is printed; before each turn all that was written goes to the disk. The copy reads the finished files and
writes them again, to the disk as well. CPU time is that of all threads together. The table has the median of the
rounds. New exports appear by themselves.

    python -m benchmarks.exports --records 1000 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from beam_pipeline.exports import EXPORTS
from benchmarks.lmdb_build import generate_shards, run_apart
from region_features.exports.base import Export

SET = "test2015"
_BLOCK = 8 << 20


class Timing(NamedTuple):
    """One export in one round: bytes and files written, seconds of build, copy and CPU in it, peak memory in MiB."""

    bytes: int
    files: int
    build: float
    copy: float
    cpu: float
    peak_mib: float


def main(argv: Sequence[str] | None = None) -> int:
    """Generate the shards, build each export in turns, print the table."""
    kinds = [kind for kind in EXPORTS if not kind.needs_captions]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--outputs",
        default=",".join(kind.name for kind in kinds),
        help="which exports; default all that need no captions",
    )
    parser.add_argument("--dir", help="folder for shards and outputs; removed afterwards (default: a temporary one)")
    arguments = parser.parse_args(argv)
    chosen = [kind for kind in kinds if kind.name in arguments.outputs.split(",")]
    measured: dict[type[Export], list[Timing]] = {kind: [] for kind in chosen}
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        run_apart(make_shards, folder, arguments.records)
        for _ in range(arguments.rounds):
            for kind, timings in measured.items():
                timings.append(run_apart(partial(_time, kind), folder, arguments.records))
    print("| export | kB a record | files | records/s | plain copy, records/s | CPU, ms a record | peak, MiB |")
    print("|---|---|---|---|---|---|---|")
    for kind, timings in measured.items():
        size, files = timings[0].bytes / arguments.records / 1e3, timings[0].files
        build, copy, cpu = (statistics.median(column) for column in list(zip(*timings, strict=True))[2:5])
        rates = (
            f"{arguments.records / build:.0f} | {arguments.records / copy:.0f} | {cpu / arguments.records * 1e3:.1f}"
        )
        peak = max(timing.peak_mib for timing in timings)
        form = f", {kind.__name__}" if [other.name for other in kinds].count(kind.name) > 1 else ""
        print(f"| `{kind.name}`{form} | {size:.0f} | {files} | {rates} | {peak:.0f} |")
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    return 0


def make_shards(folder: str, records: int) -> None:
    """Write shards, and the stats by which an export knows their images without reading them."""
    from region_features.formats.example import decode_example
    from region_features.formats.tfrecord import read_records
    from region_features.records.stats import STATS_SUFFIX, ShardStats

    generate_shards(folder, records)
    for path in sorted(Path(folder, "shards").iterdir()):
        with path.open("rb") as stream:
            ids = tuple(decode_example(data, path.name).record.img_id for data in read_records(stream, path.name))
        stats = ShardStats(path.name, {}, "", ids, {}, (), 0, path.stat().st_size, "", "")
        Path(f"{path}{STATS_SUFFIX}").write_bytes(stats.to_json())


def _time(kind: type[Export], folder: str, records: int) -> Timing:
    from transforms.exports import ExportJob, build_export

    export = kind()
    shards = tuple(str(path) for path in sorted(Path(folder, "shards").glob("*.tfrecord")))
    output = Path(folder, "out")
    os.sync()
    build = cpu = 0.0
    for target in export.targets([SET], {"min_boxes": 36, "max_boxes": 36, "conf_threshold": 0.2}):
        job = ExportJob(export, target, str(output), {SET: shards}, None, "0")
        start, cpu_before = time.perf_counter(), time.process_time()
        build_export(job, lambda what, count: None)
        build += time.perf_counter() - start
        cpu += time.process_time() - cpu_before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    files = [path for path in output.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    os.sync()
    start = time.perf_counter()
    for number, path in enumerate(files):
        _copy(path, Path(folder, f"copy-{number}"))
    copy = time.perf_counter() - start
    shutil.rmtree(output)
    for number in range(len(files)):
        Path(folder, f"copy-{number}").unlink()
    return Timing(size, len(files), build, copy, cpu, peak)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, on the disk when this returns, as what an export publishes is."""
    with source.open("rb") as reading, target.open("wb") as writing:
        while block := reading.read(_BLOCK):
            writing.write(block)
        writing.flush()
        os.fsync(writing.fileno())


if __name__ == "__main__":
    main()
