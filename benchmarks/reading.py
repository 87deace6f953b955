"""Random access by image id: RegionFeatures over LMDB and shards, against the older reader's way.

The older way, written plainly here: look the id up in the list of all ids, from the front, then unpickle the LMDB's
value and decode the base64 of its arrays. Its list is as long as COCO's, however few records there are to be read.

    python -m benchmarks.reading --records 1000
"""

from __future__ import annotations

import argparse
import base64
import pickle
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.lmdb_build import run_apart

_COCO_IMAGES = 123_287
_READS = 600
_LMDB = Path("resnet101_faster_rcnn_genome_imgfeats", "volta", "photos_feat.lmdb")


def main() -> None:
    """Makes an output, reads it at random each way, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--dir", help="folder for the output; removed afterwards (default: a temporary one)")
    arguments = parser.parse_args()
    ways: dict[str, Callable[[str, int], tuple[float, float]]] = {
        "LMDB, list search": _time_old,
        "LMDB": _time_lmdb,
        "shards": _time_shards,
    }
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        output = run_apart(_generate, folder, arguments.records)
        timings = {name: run_apart(way, output, arguments.records) for name, way in ways.items()}
        opening = run_apart(_time_opening, output, arguments.records)
    print(f"{'way':20}{'reads':>7}{'ms a read':>11}{'records/s':>11}{'MiB peak':>10}")
    for name, (seconds, peak) in timings.items():
        print(f"{name:20}{_READS:7}{seconds / _READS * 1e3:11.3f}{_READS / seconds:11.1f}{peak:10.0f}")
    print(f"index of the shards: {opening / arguments.records * 1e6:.1f} us a record")


def _generate(folder: str, records: int) -> str:
    from benchmarks.output_samples import write_output

    return str(write_output(Path(folder), records))


def _time_lmdb(output: str, records: int) -> tuple[float, float]:
    from region_features import RegionFeatures

    features = RegionFeatures(Path(output) / _LMDB)
    return _time(lambda number: features[f"{number:06d}"], records)


def _time_shards(output: str, records: int) -> tuple[float, float]:
    from region_features import RegionFeatures

    features = RegionFeatures(Path(output) / "tfrecord")
    return _time(lambda number: features[f"{number:06d}"], records)


def _time_opening(output: str, records: int) -> float:
    from region_features import RegionFeatures

    start = time.perf_counter()
    if len(RegionFeatures(Path(output) / "tfrecord")) != records:
        raise RuntimeError("records are missing")
    return time.perf_counter() - start


def _time_old(output: str, records: int) -> tuple[float, float]:
    import lmdb
    import numpy as np

    options: dict[str, Any] = {"readonly": True, "lock": False, "readahead": False, "meminit": False, "max_readers": 1}
    environment = lmdb.open(str(Path(output) / _LMDB), **options)
    image_ids = [str(number).encode() for number in range(_COCO_IMAGES)]
    # Spread over the whole list, as COCO's images are; the value is that of a record that is there.
    stride = _COCO_IMAGES // records

    def read(number: int) -> list[Any]:
        index = image_ids.index(str(number * stride).encode())
        with environment.begin(write=False) as transaction:
            item = pickle.loads(transaction.get(image_ids[index // stride]) or b"")
        boxes = int(item["num_boxes"])
        arrays = [
            np.frombuffer(base64.b64decode(item[name]), np.float32).reshape(boxes, -1)
            for name in ("features", "boxes", "cls_prob", "attrs")
        ]
        return [*arrays, int(item["img_h"]), int(item["img_w"])]

    return _time(read, records)


def _time(read: Callable[[int], Any], records: int) -> tuple[float, float]:
    import numpy as np

    numbers = np.random.default_rng(1).integers(0, records, _READS).tolist()
    for number in numbers[:20]:
        read(number)
    start = time.perf_counter()
    for number in numbers:
        read(number)
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
