"""Time the hard negatives' neighbour search at COCO's size, and against scikit-learn's BallTree at a smaller one.

    python -m benchmarks.negatives --rows 113287 --tree_rows 8000

The points resemble mean-pooled features: 2,048 coordinates, clustered, about 64 free directions, none negative, more
than half of them zero. Each search runs in a process of its own, whose peak memory is printed. Exit status: 1 if the
two searches disagree.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.lmdb_build import run_apart

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POOL, WIDTH = 100, 2048
_CLUSTERS, _DIRECTIONS = 300, 64
_PART = 4096


def main() -> int:
    """Run both searches and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=113_287, help="points; 113287 are COCO's train and restval images")
    parser.add_argument("--tree_rows", type=int, default=8_000, help="points of the comparison; 0 for none")
    arguments = parser.parse_args()
    seconds, swept_again, before, peak = run_apart(time_search, arguments.rows)
    rate = arguments.rows**2 * WIDTH / seconds / 1e9  # each pair of points is multiplied once
    print(f"{'rows':>8}{'seconds':>9}{'GFLOP/s':>9}{'swept again':>13}{'MiB before':>12}{'MiB peak':>10}")
    print(f"{arguments.rows:8}{seconds:9.1f}{rate:9.1f}{swept_again:13}{before:12.0f}{peak:10.0f}", flush=True)
    if not arguments.tree_rows:
        return 0
    seconds, tree_seconds, different = run_apart(compare, arguments.tree_rows)
    print(f"\n{'rows':>8}{'BallTree s':>12}{'this s':>9}{'ratio':>8}{'rows that differ':>18}")
    print(f"{arguments.tree_rows:8}{tree_seconds:12.1f}{seconds:9.1f}{tree_seconds / seconds:8.1f}{different:18}")
    return 1 if different else 0


def feature_like_points(rows: int) -> NDArray[np.float32]:
    """Return seeded points, float32 (rows, WIDTH)."""
    import numpy as np

    random = np.random.default_rng(2014)
    centres = random.standard_normal((_CLUSTERS, _DIRECTIONS), dtype=np.float32)
    directions = 0.12 * random.standard_normal((_DIRECTIONS, WIDTH), dtype=np.float32)
    points = np.empty((rows, WIDTH), np.float32)
    for start in range(0, rows, _PART):
        part = points[start : start + _PART]
        positions = centres[random.integers(0, _CLUSTERS, len(part))]
        positions += 0.6 * random.standard_normal(positions.shape, dtype=np.float32)
        random.standard_normal(out=part, dtype=np.float32)
        part *= 0.3
        part += positions @ directions - 0.2
        np.maximum(part, 0, out=part)
    return points


def time_search(rows: int) -> tuple[float, int, float, float]:
    """Return a search's seconds, the rows that it swept again, and memory in MiB before it and at its peak."""
    from region_features.negatives.neighbours import nearest_neighbours

    points = feature_like_points(rows)
    before, start = _peak_mib(), time.perf_counter()
    swept_again = nearest_neighbours(points, POOL).swept_again
    return time.perf_counter() - start, swept_again, before, _peak_mib()


def compare(rows: int) -> tuple[float, float, int]:
    """Return the seconds of this search and of BallTree's on the same points, and in how many rows they differ."""
    from sklearn.neighbors import BallTree

    from region_features.negatives.neighbours import nearest_neighbours

    points = feature_like_points(rows)
    start = time.perf_counter()
    pool = nearest_neighbours(points, POOL).index
    seconds, start = time.perf_counter() - start, time.perf_counter()
    expected = BallTree(points).query(points, k=pool.shape[1], return_distance=False)
    return seconds, time.perf_counter() - start, int((pool != expected).any(axis=1).sum())


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
