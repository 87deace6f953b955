from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import BallTree, NearestNeighbors

from region_features.negatives.neighbours import SPARE, Product, cpu_product, nearest_neighbours

Points = NDArray[np.float32]


def expected_pool(points: Points, columns: int) -> NDArray[np.int64]:
    """Sort all squared float64 distances: the point itself, then by distance, then by index."""
    exact = points.astype(np.float64)
    rows = []
    for row, own in enumerate(exact):
        squared = np.square(exact - own).sum(axis=1)
        squared[row] = -1
        rows.append(np.argsort(squared, kind="stable")[:columns])
    return np.array(rows)


def relu_like(seed: int, rows: int = 400, width: int = 64) -> Points:
    random = np.random.default_rng(seed)
    centres = random.standard_normal((9, width))[random.integers(0, 9, rows)]
    return np.maximum(centres + 0.5 * random.standard_normal((rows, width)), 0).astype(np.float32)


def with_offset(seed: int) -> Points:
    return relu_like(seed) + np.float32(1000)


def with_duplicates(seed: int) -> Points:
    random = np.random.default_rng(seed)
    points = relu_like(seed)
    points[random.integers(0, 400, 200)] = points[random.integers(0, 400, 200)]
    points[100:180] = points[3]  # more equal points than a pool has columns
    return points


def on_a_grid(seed: int) -> Points:
    return np.random.default_rng(seed).integers(0, 3, (400, 4)).astype(np.float32)


def tight_clusters(seed: int) -> Points:
    """Clusters so narrow that float32 products cannot tell their members apart."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((3, 64))[random.integers(0, 3, 400)]
    return (centres + 1e-4 * random.standard_normal((400, 64))).astype(np.float32)


def with_an_outlier(seed: int) -> Points:
    points = relu_like(seed)
    points[7] *= np.float32(1e6)
    return points


def tiny(seed: int) -> Points:
    return relu_like(seed) * np.float32(1e-36)


def huge(seed: int) -> Points:
    return relu_like(seed) * np.float32(1e37)


MAKERS = [relu_like, with_offset, with_duplicates, on_a_grid, tight_clusters, with_an_outlier, tiny, huge]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("make", MAKERS)
def test_neighbours_are_ordered_by_float64_distance(make: Callable[[int], Points], seed: int) -> None:
    points = make(seed)
    index = nearest_neighbours(points, 30, block_rows=97).index
    assert index.dtype == np.int64
    np.testing.assert_array_equal(index, expected_pool(points, 30))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("make", [relu_like, with_offset, with_an_outlier])
def test_neighbours_equal_scikit_learns_without_ties(make: Callable[[int], Points], seed: int) -> None:
    points = make(seed)
    tree = BallTree(points).query(points, k=30, return_distance=False)
    np.testing.assert_array_equal(nearest_neighbours(points, 30, block_rows=150).index, tree)


@pytest.mark.parametrize("make", [relu_like, with_duplicates, on_a_grid])
def test_distances_equal_scikit_learns_with_ties(make: Callable[[int], Points]) -> None:
    points = make(5).astype(np.float64)
    distances, _ = NearestNeighbors(n_neighbors=30, algorithm="brute").fit(points).kneighbors(points)
    index = nearest_neighbours(make(5), 30, block_rows=64).index
    squared = np.square(points[index] - points[:, None]).sum(axis=2)
    np.testing.assert_allclose(np.sqrt(squared), distances, atol=1e-6)
    assert (np.diff(squared[:, 1:]) >= -1e-12).all()


@pytest.mark.parametrize("block_rows", [7, 29, 100, 399, 400, 5000])
def test_neighbours_do_not_depend_on_the_block_size(block_rows: int) -> None:
    points = with_duplicates(3)
    expected = expected_pool(points, 12)
    np.testing.assert_array_equal(nearest_neighbours(points, 12, block_rows=block_rows).index, expected)


def test_only_unproved_rows_are_swept_again() -> None:
    assert nearest_neighbours(relu_like(0), 30).swept_again == 0
    assert nearest_neighbours(with_offset(0), 30).swept_again == 0  # an offset costs no precision
    assert nearest_neighbours(tight_clusters(0), 30).swept_again == 400


def noisy(error: float) -> Callable[[Points], Product]:
    """Products wrong by `error` times the points' lengths: too small for near points, too large for far ones."""

    def product_of(points: Points) -> Product:
        accurate = cpu_product(points)
        lengths = np.linalg.norm(points, axis=1)

        def product(rows: slice | NDArray[np.intp], columns: slice) -> Points:
            dots = accurate(rows, columns)
            median = np.median(dots, axis=1, keepdims=True)
            inaccurate: Points = dots - np.sign(dots - median) * error * np.outer(lengths[rows], lengths[columns])
            return inaccurate.astype(np.float32)

        return product

    return product_of


def test_neighbours_are_exact_with_the_largest_error_of_float32_products() -> None:
    points = 3e-6 * np.random.default_rng(0).standard_normal((300, 4096)).astype(np.float32)
    points[:, :300] += np.eye(300, dtype=np.float32)  # all distances are about equal
    neighbours = nearest_neighbours(points, 20, noisy(4000 * 2.0**-24))
    assert neighbours.swept_again == 300
    np.testing.assert_array_equal(neighbours.index, expected_pool(points, 20))


@pytest.mark.parametrize(
    ("rows", "pool", "columns"), [(1, 100, 1), (2, 100, 2), (60, 100, 60), (60, 1, 1), (60, 60, 60)]
)
def test_the_pool_has_at_most_as_many_columns_as_points(rows: int, pool: int, columns: int) -> None:
    points = relu_like(1, rows)
    index = nearest_neighbours(points, pool).index
    assert index.shape == (rows, columns)
    np.testing.assert_array_equal(index, expected_pool(points, columns))


@pytest.mark.parametrize("rows", [SPARE + 9, SPARE + 10, SPARE + 11])
def test_neighbours_are_exact_with_about_as_many_points_as_candidates(rows: int) -> None:
    points = relu_like(1, rows)
    np.testing.assert_array_equal(nearest_neighbours(points, 10, block_rows=7).index, expected_pool(points, 10))


def test_equal_points_come_first_in_their_own_row_and_then_by_index() -> None:
    index = nearest_neighbours(np.ones((200, 5), np.float32), 4, block_rows=64).index
    np.testing.assert_array_equal(index[:3], [[0, 1, 2, 3], [1, 0, 2, 3], [2, 0, 1, 3]])
    np.testing.assert_array_equal(index[199], [199, 0, 1, 2])


def test_progress_rises_to_the_number_of_points() -> None:
    done: list[int] = []
    nearest_neighbours(relu_like(0), 5, block_rows=100, on_progress=done.append)
    assert done == sorted(done) and len(set(done)) == 10 and done[-1] == 400


@pytest.mark.parametrize(
    ("points", "pool", "message"),
    [
        (np.empty((0, 4), np.float32), 5, "N and pool at least 1"),
        (np.ones((3, 4), np.float32), 0, "a pool of 0"),
        (np.ones((3, 4), np.float64), 2, "expected float32 points"),
        (np.ones(3, np.float32), 2, r"\(3,\)"),
        (np.array([[1], [2], [np.nan]], np.float32), 2, "row 2"),
        (np.array([[1], [np.inf], [-np.inf]], np.float32), 2, "row 1"),
    ],
)
def test_bad_points_and_empty_pools_are_refused(points: Any, pool: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_neighbours(points, pool)
