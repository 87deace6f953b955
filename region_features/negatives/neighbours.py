"""Exact nearest neighbours: float32 matrix products propose candidates, float64 distances rank them.

N: points; D: coordinates; W: columns of the result; R, C: rows and columns of one block of products.

Rounding never changes the result, because the error of the products is bounded. A float32 product of x and y is off by
at most gamma |x| |y|, where gamma = D u / (1 - D u) and u = 2**-24, in any order of summation (Higham, Accuracy and
Stability of Numerical Algorithms, 2nd ed., section 3.1). As |x| |y| <= (|x|**2 + |y|**2) / 2, each of the two points
bears its own share of the error:

    score(i, j) = x_i.x_j - (1 - G) |x_j|**2 / 2        G = gamma + 5 u; 5 u bounds the rounding of the score itself
    |x_i - x_j|**2 >= (1 - G) |x_i|**2 - 2 score(i, j)

So every point within a given distance of i has at least a given score. Each row keeps the candidates with the highest
scores and ranks them; the distance of its last neighbour then gives the score that a nearer point must have. A row that
dropped no such score is proved complete; any other row is swept again, and ranks every point with such a score.
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

BLOCK_ROWS = 4096  # a block of products takes 64 MiB
SPARE = 28  # additional candidates, which prove nearly all rows complete in the first sweep
_SWEEP_ROWS = 256
_RANK_ROWS = 512
_RANK_AT_ONCE = 1024
_UNIT = 2.0**-24
_FLOAT64_ERROR = 1e-9  # relative, far above the error of a float64 distance
_UNDERFLOW = 1e-30  # absolute, far above D * 2**-126, for coordinates in [-1, 1]

# (rows, columns) -> products of these points, float32 (R, C).
Product = Callable[[slice | NDArray[np.intp], slice], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest neighbours of every point."""

    index: NDArray[np.int64]  # (N, W); row i holds i itself, then its neighbours by rising distance, ties by index
    swept_again: int  # rows that the first sweep did not prove complete


def cpu_product(points: NDArray[np.float32]) -> Product:
    """Return products of the points (N, D) by numpy's BLAS."""

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
    """Find the nearest points of each point by Euclidean distance.

    Distances are sums of squared float64 differences of the float32 coordinates, as in scikit-learn's trees. The result
    does not depend on `product_of`, `block_rows` or the machine. Memory: the points twice, 8 bytes per candidate, and a
    few blocks of products.

    Args:
        features: float32 (N, D), finite.
        pool: columns of the result, the point itself included; at most N are returned.
        product_of: returns the products of the points (N, D) that it is given; must compute in full float32.
        block_rows: rows and columns of a block of products.
        on_progress: called with the share of the products that is done, as a number of points from 0 to N.

    Raises:
        ValueError: there is no point, `pool` is below 1, or a coordinate is not finite; the message names its row.
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
    points = _centre(features)
    product = product_of(points.scaled)
    blocks = [slice(start, min(start + block_rows, total)) for start in range(0, total, block_rows)]
    candidates = _find_candidates(points, product, blocks, columns - 1 + SPARE, on_progress)
    farthest = _rank_all(features, candidates, index)
    least_scores = points.least_scores(farthest)
    unproved = np.flatnonzero(candidates.lowest >= least_scores)
    for start in range(0, len(unproved), _SWEEP_ROWS):
        _sweep_again(features, points, product, blocks, unproved[start : start + _SWEEP_ROWS], least_scores, index)
    return Neighbours(index, len(unproved))


@dataclass(frozen=True, eq=False)
class _Points:
    """The points around their mean, scaled into [-1, 1], with the terms of the error bound."""

    scaled: NDArray[np.float32]  # (N, D)
    squares: NDArray[np.float64]  # (N,), squared lengths of `scaled`
    penalties: NDArray[np.float32]  # (N,), (1 - G) / 2 of `squares`: the second term of the score
    shifts: NDArray[np.float64]  # (N,), upper bound of the distance by which rounding to float32 moved each point
    scale: float  # the power of two that the centred points were multiplied by
    loss: float  # G

    def least_scores(self, squared: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return, for each row, the least score (N,) of a point within this squared distance (N,)."""
        reach = np.sqrt(squared) * (self.scale * (1 + _FLOAT64_ERROR)) + self.shifts + self.shifts.max()
        return ((1 - self.loss) * self.squares - _UNDERFLOW - reach**2) / 2


def _centre(features: NDArray[np.float32]) -> _Points:
    # A common offset cancels in every distance: subtract it before anything is rounded.
    with np.errstate(invalid="ignore"):  # reported below
        centre = features.mean(axis=0, dtype=np.float64)
    if not np.isfinite(centre).all():
        row = next(row for row, values in enumerate(features) if not np.isfinite(values).all())
        raise ValueError(f"expected finite coordinates, got others in row {row}")
    spread = np.maximum(features.max(axis=0) - centre, centre - features.min(axis=0)).max(initial=0.0)
    scale = math.ldexp(1.0, -math.frexp(spread)[1])
    total, width = features.shape
    scaled = np.empty((total, width), np.float32)
    squares, shifts = np.empty(total), np.empty(total)
    for start in range(0, total, _RANK_ROWS):
        part = slice(start, start + _RANK_ROWS)
        exact = (features[part] - centre) * scale
        scaled[part] = exact
        exact -= scaled[part]
        shifts[part] = np.sqrt(np.square(exact).sum(axis=1))
        squares[part] = np.square(scaled[part], dtype=np.float64).sum(axis=1)
    shifts = shifts * (1 + _FLOAT64_ERROR) + 2.0**-50 * np.sqrt(squares)  # `exact` itself is rounded to float64
    loss = width * _UNIT / (1 - width * _UNIT) + 5 * _UNIT
    return _Points(scaled, squares, ((1 - loss) / 2 * squares).astype(np.float32), shifts, scale, loss)


@dataclass(frozen=True, eq=False)
class _Candidates:
    """The points with the highest scores in each row so far."""

    scores: NDArray[np.float32]  # (N, candidates per row), -inf in free places
    index: NDArray[np.int32]  # (N, candidates per row), the points
    lowest: NDArray[np.float32]  # (N,), the lowest score in the row; no point that was dropped has a higher one

    def fill(self, block: slice, scores: NDArray[np.float32]) -> None:
        """Fill the rows of a block with its own points, given the scores (R, R) between them."""
        width, kept = scores.shape[1], min(scores.shape[1], self.scores.shape[1])
        chosen = np.argpartition(scores, width - kept, axis=1)[:, width - kept :]
        self.scores[block, :kept] = np.take_along_axis(scores, chosen, axis=1)
        self.index[block, :kept] = chosen + block.start
        self.lowest[block] = self.scores[block].min(axis=1)

    def merge(self, rows: NDArray[np.intp], index: NDArray[np.intp], scores: NDArray[np.float32]) -> None:
        """Merge in the points `index` with their scores; `rows` says into which rows, in ascending order."""
        if not len(rows):
            return
        changed, first, count = np.unique(rows, return_index=True, return_counts=True)
        kept = self.scores.shape[1]
        at = (np.repeat(np.arange(len(changed)), count), np.arange(len(rows)) - np.repeat(first, count) + kept)
        shape = len(changed), kept + int(count.max())
        all_scores, all_index = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int32)
        all_scores[:, :kept], all_index[:, :kept] = self.scores[changed], self.index[changed]
        all_scores[at], all_index[at] = scores, index
        chosen = np.argpartition(all_scores, shape[1] - kept, axis=1)[:, shape[1] - kept :]
        highest = np.take_along_axis(all_scores, chosen, axis=1)
        self.scores[changed], self.index[changed] = highest, np.take_along_axis(all_index, chosen, axis=1)
        self.lowest[changed] = highest.min(axis=1)


def _find_candidates(
    points: _Points, product: Product, blocks: list[slice], width: int, on_progress: Callable[[int], None] | None
) -> _Candidates:
    total = len(points.scaled)
    candidates = _Candidates(
        np.full((total, width), -np.inf, np.float32),
        np.full((total, width), -1, np.int32),
        np.full(total, -np.inf, np.float32),
    )
    done = 0
    # Each pair of blocks is multiplied once and serves the rows of both.
    with closing(in_background(_products(product, blocks), 1)) as products:
        for rows, columns, dots in products:
            scores = dots - points.penalties[columns]
            if rows == columns:
                np.fill_diagonal(scores, -np.inf)  # the point itself is not a candidate: it always comes first
                candidates.fill(rows, scores)
            else:
                row, column = np.nonzero(scores > candidates.lowest[rows, None])
                candidates.merge(row + rows.start, column + columns.start, scores[row, column])
                np.subtract(dots, points.penalties[rows, None], out=scores)
                row, column = np.nonzero(scores > candidates.lowest[columns])
                order = np.argsort(column, kind="stable")
                row, column = row[order], column[order]
                candidates.merge(column + columns.start, row + rows.start, scores[row, column])
            done += scores.size * (1 if rows == columns else 2)
            if on_progress:
                on_progress(done // total)
    return candidates


def _products(product: Product, blocks: list[slice]) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
    # Each block with itself first: its rows then have full candidate lists, and few later points get in.
    for block in blocks:
        yield block, block, product(block, block)
    for rows, columns in combinations(blocks, 2):
        yield rows, columns, product(rows, columns)


def _rank_all(features: NDArray[np.float32], candidates: _Candidates, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fill `index` (N, W) after its first column; return the squared distances (N,) of its last column."""
    farthest = np.empty(len(features))

    def rank(start: int) -> None:
        for row in range(start, min(start + _RANK_ROWS, len(features))):
            ascending = np.sort(candidates.index[row, candidates.scores[row] > -np.inf])
            farthest[row] = _rank(features, row, ascending, index[row, 1:])

    _run_in_threads(rank, range(0, len(features), _RANK_ROWS))
    return farthest


def _run_in_threads(work: Callable[[int], None], items: range) -> None:
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as threads:
        list(threads.map(work, items))  # list: raise here what a thread raised


def _rank(
    features: NDArray[np.float32], row: int, candidates: NDArray[np.integer], nearest: NDArray[np.int64]
) -> float:
    """Fill `nearest` from candidates in ascending order; return the squared distance of the last one."""
    own = features[row].astype(np.float64)
    squared = np.empty(len(candidates))
    for start in range(0, len(candidates), _RANK_AT_ONCE):
        part = slice(start, start + _RANK_AT_ONCE)
        differences = features[candidates[part]] - own
        np.einsum("ij,ij->i", differences, differences, out=squared[part])
    order = np.argsort(squared, kind="stable")[: len(nearest)]  # stable: ties by index
    nearest[:] = candidates[order]
    return float(squared[order[-1]])


def _sweep_again(
    features: NDArray[np.float32],
    points: _Points,
    product: Product,
    blocks: list[slice],
    rows: NDArray[np.intp],
    least_scores: NDArray[np.float64],
    index: NDArray[np.int64],
) -> None:
    """Rank, for each of `rows`, every point that has at least the row's least score."""
    parts: list[list[NDArray[np.int32]]] = [[] for _ in rows]
    for block in blocks:
        block_scores = product(rows, block) - points.penalties[block]
        for row_parts, scores, row in zip(parts, block_scores, rows, strict=True):
            row_parts.append(np.flatnonzero(scores >= least_scores[row]).astype(np.int32) + np.int32(block.start))

    def rank(number: int) -> None:
        row, candidates = int(rows[number]), np.concatenate(parts[number])
        _rank(features, row, candidates[candidates != row], index[row, 1:])

    _run_in_threads(rank, range(len(rows)))
