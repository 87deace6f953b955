"""Times the import of each format on records of full size: the listing before a run, and the reading by its workers.

Each export builds its targets from the same shards, apart from the others; its files, just written and thus in memory,
are then listed and read in the order of a run by one thread. Shards are imported, too.

    python -m benchmarks.imports --records 400
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from beam_pipeline.exports import EXPORTS
from benchmarks.exports import SET, make_shards
from benchmarks.lmdb_build import run_apart
from region_features.exports.base import Export

# What holds no records, or rounded ones, is not imported.
_KINDS = [kind for kind in EXPORTS if kind.name not in ("negatives", "coco-json", "report")]


class Timing(NamedTuple):
    """One format: the images that were read, seconds of listing and reading, peak memory in MiB."""

    images: int
    listing: float
    reading: float
    peak_mib: float


def main(argv: Sequence[str] | None = None) -> int:
    """Generate the shards, import them and what each export builds of them, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=400)
    parser.add_argument(
        "--formats",
        default=",".join(dict.fromkeys(kind.name for kind in _KINDS)),
        help="which, beside the shards; default all",
    )
    parser.add_argument("--dir", help="folder for shards and outputs; removed afterwards (default: a temporary one)")
    arguments = parser.parse_args(argv)
    print("| format | listed, records/s | read, records/s | peak, MiB |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        run_apart(make_shards, folder, arguments.records)
        for kind in (None, *(kind for kind in _KINDS if kind.name in arguments.formats.split(","))):
            if kind is not None:
                run_apart(partial(_build, kind), folder, arguments.records)
            timing = run_apart(_time, folder, arguments.records)
            name = f"`{kind.name}`, {kind.__name__}" if kind else "`tfrecord`"
            rates = f"{timing.images / timing.listing:.0f} | {timing.images / timing.reading:.0f}"
            print(f"| {name} | {rates} | {timing.peak_mib:.0f} |")
            shutil.rmtree(Path(folder, "out"), ignore_errors=True)
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    return 0


def _build(kind: type[Export], folder: str, records: int) -> None:
    from transforms.exports import ExportJob, build_export

    export = kind()
    shards = tuple(str(path) for path in sorted(Path(folder, "shards").glob("*.tfrecord")))
    for target in export.targets([SET], {"min_boxes": 36, "max_boxes": 36, "conf_threshold": 0.2}):
        build_export(ExportJob(export, target, str(Path(folder, "out")), {SET: shards}, None, "0"), _ignore)


def _ignore(what: str, count: int) -> None:
    pass


def _time(folder: str, records: int) -> Timing:
    from region_features.planning.catalog import Catalog
    from region_features.sources.base import Source
    from transforms.imports import list_imports, read_imported_record

    catalog = Catalog()
    start = time.perf_counter()
    list_imports([str(path) for path in (Path(folder, "out"), Path(folder, "shards")) if path.exists()][:1], catalog)
    listing = time.perf_counter() - start
    opened: dict[str, Source] = {}
    images = 0
    start = time.perf_counter()
    for ref in catalog.refs():
        read_imported_record(ref, opened)
        images += 1
    reading = time.perf_counter() - start
    return Timing(images, listing, reading, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
