"""Exact nearest neighbours: float32 matrix products propose candidates, float64 differences rank them.

N: points; D: coordinates; W: neighbours asked for; R, C: rows and columns of one block of products.

The products are bounded, not trusted. For vectors x, y of D coordinates, float32 gives x.y within gamma |x| |y|, where
gamma = D u / (1 - D u) and u = 2**-24, whatever the order of summation (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., section 3.1). With |x| |y| <= (|x|**2 + |y|**2) / 2 the error splits into a share of each point:

    key(i, j) = x_i.x_j - (1 - G) |x_j|**2 / 2        G = gamma + 5 u: the roundings of the key and of its parts
    |x_i - x_j|**2 >= (1 - G) |x_i|**2 - 2 key(i, j)

So every point nearer to i than a known distance has a key over a known number. A row that dropped no key over its
number has lost nothing; the others are swept again for all of them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from region_features.background import in_background

BLOCK_ROWS = 4096  # a block of products is then 64 MiB
SPARE = 28  # candidates beyond those asked for, so that nearly all rows are proved at once
_SWEEP_ROWS = 256
_RANK_ROWS = 512
_RANK_AT_ONCE = 1024
_UNIT = 2.0**-24
_FLOAT64_ERROR = 1e-9  # relative, far over what a float64 distance can be off
_UNDERFLOW = 1e-30  # absolute, far over D * 2**-126 for coordinates up to 1

# Rows and columns of the points (slices, or row numbers) -> their products, float32 (R, C).
Product = Callable[[slice | NDArray[np.intp], slice], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Who is near whom.

    Attributes:
        index: int64 (N, W); row i starts with i itself, then come the others by rising distance, ties by index.
        swept_again: rows whose first candidates could not be proved complete.
    """

    index: NDArray[np.int64]
    swept_again: int


def cpu_product(points: NDArray[np.float32]) -> Product:
    """Products by numpy's BLAS."""

    def product(rows: slice | NDArray[np.intp], columns: slice) -> NDArray[np.float32]:
        return points[rows] @ points[columns].T

    return product


def nearest_neighbours(
    features: NDArray[np.float32],
    pool: int,
    product_of: Callable[[NDArray[np.float32]], Product] = cpu_product,
    block_rows: int = BLOCK_ROWS,
    on_progress: Callable[[int], None] | None = None,
) -> Neighbours:
    """The nearest points of each point by Euclidean distance, in the order of the squared float64 distances.

    Distances are sums of squared float64 differences of the float32 coordinates, as scikit-learn's trees compute them.
    Memory: the points twice, 8 bytes a candidate, and a few blocks. The result does not depend on `product_of`,
    `block_rows` or the machine.

    Args:
        features: float32 (N, D), finite.
        pool: columns of the result, the point itself included; min(pool, N) where there are fewer points.
        product_of: makes the product of the centred points (N, D); it must compute in full float32.
        block_rows: rows and columns of a block.
        on_progress: called with how many of the N points' worth of products is done.

    Raises:
        ValueError: there is no point, `pool` is below 1, or a coordinate is not finite; names its row.
    """
    total = len(features)
    if features.dtype != np.float32 or features.ndim != 2 or not total or pool < 1:
        raise ValueError(
            f"expected float32 points (N, D), N and pool at least 1, got {features.dtype} {features.shape} and a pool "
            f"of {pool}"
        )
    columns = min(pool, total)
    index = np.empty((total, columns), np.int64)
    index[:, 0] = np.arange(total)
    if columns == 1:
        return Neighbours(index, 0)
    points = _centred(features)
    product = product_of(points.scaled)
    blocks = [slice(start, min(start + block_rows, total)) for start in range(0, total, block_rows)]
    best = _propose(points, product, blocks, columns - 1 + SPARE, on_progress)
    farthest = _rank_all(features, best, index)
    needed = points.key_needed(farthest)
    doubtful = np.flatnonzero(best.floor >= needed)
    for start in range(0, len(doubtful), _SWEEP_ROWS):
        _sweep_again(features, points, product, blocks, doubtful[start : start + _SWEEP_ROWS], needed, index)
    return Neighbours(index, len(doubtful))


@dataclass(frozen=True, eq=False)
class _Points:
    """The points around their mean, scaled by a power of two into [-1, 1], and what the bound needs of them.

    Attributes:
        scaled: float32 (N, D).
        squares: float64 (N,), squared lengths of `scaled`.
        halves: float32 (N,), (1 - G) / 2 of the squares.
        moved: float64 (N,), how far each point was moved by rounding it to float32.
        scale: the power of two.
        loss: G.
    """

    scaled: NDArray[np.float32]
    squares: NDArray[np.float64]
    halves: NDArray[np.float32]
    moved: NDArray[np.float64]
    scale: float
    loss: float

    def key_needed(self, squared: NDArray[np.float64]) -> NDArray[np.float64]:
        """The keys (N,) that every point within these squared distances (N,) of each point reaches."""
        reach = np.sqrt(squared) * (self.scale * (1 + _FLOAT64_ERROR)) + self.moved + self.moved.max()
        return ((1 - self.loss) * self.squares - _UNDERFLOW - reach**2) / 2


def _centred(features: NDArray[np.float32]) -> _Points:
    # Distances do not change, and what cancels in them (a common offset) is taken out before anything is rounded.
    with np.errstate(invalid="ignore"):  # told below
        centre = features.mean(axis=0, dtype=np.float64)
    if not np.isfinite(centre).all():
        row = next(row for row, values in enumerate(features) if not np.isfinite(values).all())
        raise ValueError(f"expected finite coordinates, got others in row {row}")
    spread = np.maximum(features.max(axis=0) - centre, centre - features.min(axis=0)).max(initial=0.0)
    scale = math.ldexp(1.0, -math.frexp(spread)[1])
    total, width = features.shape
    scaled = np.empty((total, width), np.float32)
    squares, moved = np.empty(total), np.empty(total)
    for start in range(0, total, _RANK_ROWS):
        part = slice(start, start + _RANK_ROWS)
        exact = (features[part] - centre) * scale
        scaled[part] = exact
        exact -= scaled[part]
        moved[part] = np.sqrt(np.square(exact).sum(axis=1))
        squares[part] = np.square(scaled[part], dtype=np.float64).sum(axis=1)
    moved = moved * (1 + _FLOAT64_ERROR) + 2.0**-50 * np.sqrt(squares)  # `exact` is itself rounded
    loss = width * _UNIT / (1 - width * _UNIT) + 5 * _UNIT
    return _Points(scaled, squares, ((1 - loss) / 2 * squares).astype(np.float32), moved, scale, loss)


@dataclass(frozen=True, eq=False)
class _Best:
    """The best candidates of each point so far.

    Attributes:
        keys: (N, candidates kept), -inf where there is none yet.
        index: their points.
        floor: (N,), the least key kept; no candidate that was dropped has a greater one.
    """

    keys: NDArray[np.float32]
    index: NDArray[np.int32]
    floor: NDArray[np.float32]

    def seed(self, block: slice, keys: NDArray[np.float32]) -> None:
        """Takes the best of a block's keys (R, R) among its own points."""
        width, kept = keys.shape[1], min(keys.shape[1], self.keys.shape[1])
        chosen = np.argpartition(keys, width - kept, axis=1)[:, width - kept :]
        self.keys[block, :kept] = np.take_along_axis(keys, chosen, axis=1)
        self.index[block, :kept] = chosen + block.start
        self.floor[block] = self.keys[block].min(axis=1)

    def offer(self, rows: NDArray[np.intp], index: NDArray[np.intp], keys: NDArray[np.float32]) -> None:
        """Takes the better of what is there and what is offered: candidates of `rows`, which ascend."""
        if not len(rows):
            return
        hit, first, count = np.unique(rows, return_index=True, return_counts=True)
        kept = self.keys.shape[1]
        at = (np.repeat(np.arange(len(hit)), count), np.arange(len(rows)) - np.repeat(first, count) + kept)
        shape = len(hit), kept + int(count.max())
        all_keys, all_index = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int32)
        all_keys[:, :kept], all_index[:, :kept] = self.keys[hit], self.index[hit]
        all_keys[at], all_index[at] = keys, index
        chosen = np.argpartition(all_keys, shape[1] - kept, axis=1)[:, shape[1] - kept :]
        better = np.take_along_axis(all_keys, chosen, axis=1)
        self.keys[hit], self.index[hit] = better, np.take_along_axis(all_index, chosen, axis=1)
        self.floor[hit] = better.min(axis=1)


def _propose(
    points: _Points, product: Product, blocks: list[slice], width: int, on_progress: Callable[[int], None] | None
) -> _Best:
    total = len(points.scaled)
    best = _Best(
        np.full((total, width), -np.inf, np.float32),
        np.full((total, width), -1, np.int32),
        np.full(total, -np.inf, np.float32),
    )
    done = 0
    # Each pair of blocks is multiplied once and serves the rows of both.
    with closing(in_background(_products(product, blocks), 1)) as products:
        for rows, columns, dots in products:
            keys = dots - points.halves[columns]
            if rows == columns:
                np.fill_diagonal(keys, -np.inf)  # the point itself is no candidate: it comes first in any case
                best.seed(rows, keys)
            else:
                row, column = np.nonzero(keys > best.floor[rows, None])
                best.offer(row + rows.start, column + columns.start, keys[row, column])
                np.subtract(dots, points.halves[rows, None], out=keys)
                row, column = np.nonzero(keys > best.floor[columns])
                order = np.argsort(column, kind="stable")
                row, column = row[order], column[order]
                best.offer(column + columns.start, row + rows.start, keys[row, column])
            done += keys.size * (1 if rows == columns else 2)
            if on_progress:
                on_progress(done // total)
    return best


def _products(product: Product, blocks: list[slice]) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
    # A block with itself comes first: it sets every row's floor, which then lets few candidates pass.
    for block in blocks:
        yield block, block, product(block, block)
    for rows, columns in combinations(blocks, 2):
        yield rows, columns, product(rows, columns)


def _rank_all(features: NDArray[np.float32], best: _Best, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fills `index` (N, W) after its first column; gives the squared distances (N,) of the last."""
    farthest = np.empty(len(features))

    def rank(start: int) -> None:
        for row in range(start, min(start + _RANK_ROWS, len(features))):
            candidates = np.sort(best.index[row, best.keys[row] > -np.inf])
            farthest[row] = _rank(features, row, candidates, index[row, 1:])

    _side_by_side(rank, range(0, len(features), _RANK_ROWS))
    return farthest


def _side_by_side(work: Callable[[int], None], items: range) -> None:
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as threads:
        for _ in threads.map(work, items):
            pass  # what one raised is raised here


def _rank(
    features: NDArray[np.float32], row: int, candidates: NDArray[np.integer], nearest: NDArray[np.int64]
) -> float:
    """Fills `nearest` from candidates that ascend; gives the squared distance of the last."""
    own = features[row].astype(np.float64)
    squared = np.empty(len(candidates))
    for start in range(0, len(candidates), _RANK_AT_ONCE):
        part = slice(start, start + _RANK_AT_ONCE)
        differences = features[candidates[part]] - own
        np.einsum("ij,ij->i", differences, differences, out=squared[part])
    order = np.argsort(squared, kind="stable")[: len(nearest)]  # stable: ties stay in the order of their index
    nearest[:] = candidates[order]
    return float(squared[order[-1]])


def _sweep_again(
    features: NDArray[np.float32],
    points: _Points,
    product: Product,
    blocks: list[slice],
    rows: NDArray[np.intp],
    needed: NDArray[np.float64],
    index: NDArray[np.int64],
) -> None:
    """Ranks, for each of the rows, every point whose key reaches the row's number."""
    found: list[list[NDArray[np.int32]]] = [[] for _ in rows]
    for block in blocks:
        keys = product(rows, block) - points.halves[block]
        for near, key, row in zip(found, keys, rows, strict=True):
            near.append(np.flatnonzero(key >= needed[row]).astype(np.int32) + np.int32(block.start))

    def rank(number: int) -> None:
        row, candidates = int(rows[number]), np.concatenate(found[number])
        _rank(features, row, candidates[candidates != row], index[row, 1:])

    _side_by_side(rank, range(len(rows)))
