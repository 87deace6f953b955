"""Time random access by image id: RegionFeatures on an LMDB and on shards, against VOLTA's feature reader.

VOLTA's way is written out below: search the list of all ids from its start, unpickle the LMDB's value, decode the
base64 of its arrays. The list is as long as COCO's, however few records are read.

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
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.lmdb_build import run_apart

_COCO_IMAGES = 123_287
_READS = 600
_LMDB = Path("resnet101_faster_rcnn_genome_imgfeats", "volta", "photos_feat.lmdb")
_SHARDS = Path("tfrecord")


def main() -> None:
    """Write an output, read it in random order in each way, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--dir", help="folder for the output; removed afterwards (default: a temporary one)")
    arguments = parser.parse_args()
    ways: dict[str, Callable[[str, int], tuple[float, float]]] = {
        "LMDB, list search": _time_list_search,
        "LMDB": partial(_time_region_features, _LMDB),
        "shards": partial(_time_region_features, _SHARDS),
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
    from benchmarks.support.output_samples import write_output

    return str(write_output(Path(folder), records))


def _time_region_features(source: Path, output: str, records: int) -> tuple[float, float]:
    from region_features import RegionFeatures

    features = RegionFeatures(output / source)
    return _time(lambda number: features[f"{number:06d}"], records)


def _time_opening(output: str, records: int) -> float:
    from region_features import RegionFeatures

    start = time.perf_counter()
    if len(RegionFeatures(output / _SHARDS)) != records:
        raise RuntimeError("records are missing")
    return time.perf_counter() - start


def _time_list_search(output: str, records: int) -> tuple[float, float]:
    import lmdb
    import numpy as np

    options: dict[str, Any] = {"readonly": True, "lock": False, "readahead": False, "meminit": False, "max_readers": 1}
    environment = lmdb.open(str(Path(output) / _LMDB), **options)
    image_ids = [str(number).encode() for number in range(_COCO_IMAGES)]
    # Search for ids spread over the whole list, as COCO's are; read the values of the few records that exist.
    stride = _COCO_IMAGES // records

    def read(number: int) -> list[Any]:
        index = image_ids.index(str(number * stride).encode())
        with environment.begin(write=False) as transaction:
            item = pickle.loads(transaction.get(image_ids[index // stride]) or b"")
        num_boxes = int(item["num_boxes"])
        arrays = [
            np.frombuffer(base64.b64decode(item[name]), np.float32).reshape(num_boxes, -1)
            for name in ("features", "boxes", "cls_prob", "attrs")
        ]
        return [*arrays, int(item["img_h"]), int(item["img_w"])]

    return _time(read, records)


def _time(read: Callable[[int], Any], records: int) -> tuple[float, float]:
    """Return the seconds of all reads, and the process's peak memory in MiB."""
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
