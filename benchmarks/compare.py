"""Times `python -m beam_pipeline.compare` on records of full size (36 boxes, 2048 features), all of them.

Two numbers of records show whether the peak grows with them.

    python -m benchmarks.compare --records 500 2000
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from benchmarks.lmdb_build import run_apart


def main() -> None:
    """Makes outputs, compares each with itself, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--dir", help="folder for the outputs; removed afterwards (default: a temporary one)")
    arguments = parser.parse_args()
    print(f"{'records':>8}{'seconds':>9}{'records/s':>11}{'MiB peak':>10}")
    for records in arguments.records:
        with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
            output = run_apart(_generate, folder, records)
            seconds, peak = run_apart(_time, output, records)
        print(f"{records:8}{seconds:9.2f}{records / seconds:11.1f}{peak:10.0f}", flush=True)


def _generate(folder: str, records: int) -> str:
    from benchmarks.support.output_samples import write_output

    return str(write_output(Path(folder), records))


def _time(output: str, records: int) -> tuple[float, float]:
    from beam_pipeline.compare.command import compare

    start = time.perf_counter()
    comparison = compare(output, output, sample=0)
    seconds = time.perf_counter() - start
    if len(comparison.totals) != records or comparison.verdict.text != "same network":
        raise RuntimeError(f"expected {records} equal records, got {len(comparison.totals)}, {comparison.verdict.text}")
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
