"""Times the hard negatives' neighbour search at COCO's size, and against scikit-learn's BallTree at a smaller one.

    python -m benchmarks.negatives --rows 113287 --tree_rows 8000

The points resemble mean-pooled features: 2,048 coordinates, clustered, of about 64 free directions, none negative, more
than half of them zero. Each search runs in a process of its own, whose peak memory is printed. Exit status 1 if the two
searches disagree.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POOL, WIDTH = 100, 2048
_CLUSTERS, _DIRECTIONS = 300, 64
_PART = 4096
T = TypeVar("T")


@dataclass(frozen=True)
class Timing:
    """One search: seconds, rows swept again, memory in KiB before it and at its peak."""

    seconds: float
    swept_again: int
    before_kib: int
    peak_kib: int


@dataclass(frozen=True)
class Comparison:
    """Both searches of the same points: seconds of each, and rows in which they differ."""

    ours: float
    tree: float
    different: int


def main() -> int:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=113_287, help="points; 113287 are COCO's train and restval images")
    parser.add_argument("--tree_rows", type=int, default=8_000, help="points of the comparison; 0 for none")
    arguments = parser.parse_args()
    timing = run_apart(time_search, arguments.rows)
    rate = arguments.rows**2 * WIDTH / timing.seconds / 1e9  # each pair is multiplied once: WIDTH times * and +
    print(f"{'rows':>8}{'seconds':>9}{'GFLOP/s':>9}{'swept again':>13}{'MiB before':>12}{'MiB peak':>10}")
    memory = f"{timing.before_kib / 1024:12.0f}{timing.peak_kib / 1024:10.0f}"
    print(f"{arguments.rows:8}{timing.seconds:9.1f}{rate:9.1f}{timing.swept_again:13}{memory}", flush=True)
    if not arguments.tree_rows:
        return 0
    compared = run_apart(compare, arguments.tree_rows)
    print(f"\n{'rows':>8}{'BallTree s':>12}{'this s':>9}{'ratio':>8}{'rows that differ':>18}")
    ratio = compared.tree / compared.ours
    print(f"{arguments.tree_rows:8}{compared.tree:12.1f}{compared.ours:9.1f}{ratio:8.1f}{compared.different:18}")
    return 1 if compared.different else 0


def run_apart(work: Callable[[int], T], rows: int) -> T:
    """Runs `work` in a fresh process, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, rows).result()


def feature_like_points(rows: int) -> NDArray[np.float32]:
    """Gives seeded points, float32 (rows, WIDTH)."""
    import numpy as np

    random = np.random.default_rng(2014)
    centres = random.standard_normal((_CLUSTERS, _DIRECTIONS), dtype=np.float32)
    directions = 0.12 * random.standard_normal((_DIRECTIONS, WIDTH), dtype=np.float32)
    points = np.empty((rows, WIDTH), np.float32)
    for start in range(0, rows, _PART):
        part = points[start : start + _PART]
        places = centres[random.integers(0, _CLUSTERS, len(part))]
        places += 0.6 * random.standard_normal(places.shape, dtype=np.float32)
        random.standard_normal(out=part, dtype=np.float32)
        part *= 0.3
        part += places @ directions - 0.2
        np.maximum(part, 0, out=part)
    return points


def time_search(rows: int) -> Timing:
    """Searches once."""
    from region_features.negatives.neighbours import nearest_neighbours

    points = feature_like_points(rows)
    before, start = _peak_kib(), time.perf_counter()
    found = nearest_neighbours(points, POOL)
    return Timing(time.perf_counter() - start, found.swept_again, before, _peak_kib())


def compare(rows: int) -> Comparison:
    """Searches with both, on the same points."""
    from sklearn.neighbors import BallTree

    from region_features.negatives.neighbours import nearest_neighbours

    points = feature_like_points(rows)
    start = time.perf_counter()
    found = nearest_neighbours(points, POOL).index
    ours, start = time.perf_counter() - start, time.perf_counter()
    expected = BallTree(points).query(points, k=found.shape[1], return_distance=False)
    return Comparison(ours, time.perf_counter() - start, int((found != expected).any(axis=1).sum()))


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
