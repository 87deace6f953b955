"""Times `python -m beam_pipeline.verify` on records of full size: 36 boxes, 0.6 MB in a shard, 0.8 MB in the LMDB.

The peak counts the LMDB's mapped pages too, which the system takes back when it needs them.

    python -m benchmarks.verify --records 1000
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.lmdb_build import run_apart


def main() -> None:
    """Makes an output, verifies it with its LMDB and without, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--dir", help="folder for the output; removed afterwards (default: a temporary one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        output = run_apart(_generate, folder, arguments.records)
        timings = {"shards and LMDB": run_apart(_time, output, arguments.records)}
        shutil.rmtree(Path(output, "resnet101_faster_rcnn_genome_imgfeats"))
        timings["shards alone"] = run_apart(_time, output, arguments.records)
    print(f"{'what':18}{'records':>8}{'seconds':>9}{'records/s':>11}{'MiB peak':>10}")
    for name, (seconds, peak) in timings.items():
        print(f"{name:18}{arguments.records:8}{seconds:9.2f}{arguments.records / seconds:11.1f}{peak:10.0f}")


def _generate(folder: str, records: int) -> str:
    from benchmarks.support.output_samples import write_output

    return str(write_output(Path(folder), records))


def _time(output: str, records: int) -> tuple[float, float]:
    from beam_pipeline.verify.command import verify

    start = time.perf_counter()
    report = verify(output)
    seconds = time.perf_counter() - start
    wrong = [problem for problem in report.problems if "_feat.lmdb/data.mdb: listed" not in problem.message]
    if wrong or report.records != records:
        raise RuntimeError(f"expected {records} good records, got {report.records} and {wrong[:1]}")
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
