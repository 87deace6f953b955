"""Checks of hard_negative.npz and hard_negative.pkl; each yields Problems.

N: images of the pool; P: columns of the pool.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from region_features.formats.hard_negatives import encode_pickle
from region_features.formats.npz import decode_file
from region_features.validation.record import Problem


def check_negatives(npz: bytes, pickled: bytes, images: int, coco_ids: Collection[int] | None) -> Iterator[Problem]:
    """Check shapes, ids and indices of the arrays; compare the pickle's bytes, without unpickling it.

    Args:
        npz: content of hard_negative.npz.
        pickled: content of hard_negative.pkl.
        images: number of training images with captions in the shards.
        coco_ids: their coco ids, None if their file names do not contain them.
    """
    try:
        arrays = decode_file(npz, "hard_negative.npz", ("train_hard_pool", "train_image_list"))
        pool, ids = arrays["train_hard_pool"], arrays["train_image_list"]
    except (ValueError, KeyError) as error:
        yield _problem(f"hard_negative.npz: expected the arrays of hard negatives, got {error!r}")
        return
    kinds_fit = pool.dtype == np.int64 and (ids.dtype == np.int64 or ids.dtype.kind == "U")
    well_formed = pool.ndim == 2 and ids.shape == pool.shape[:1] and kinds_fit
    if not well_formed or not pool.size:
        got = f"{pool.dtype} {pool.shape} and {ids.dtype} {ids.shape}"
        yield _problem(f"hard_negative.npz: expected int64 of (N, P) and int64 or text of (N,), got {got}")
        return
    if pickled != encode_pickle(pool, ids):
        yield _problem("hard_negative.pkl: expected the pickle of what hard_negative.npz holds, got other bytes")
    count = len(pool)
    if count != images:
        yield _problem(f"hard_negative.npz: expected {images} images with captions of training, got {count}")
    elif coco_ids is not None and set(ids.tolist()) != set(coco_ids):
        unexpected, missing = set(ids.tolist()) - set(coco_ids), set(coco_ids) - set(ids.tolist())
        example = min(unexpected or missing, key=str)
        yield _problem(f"hard_negative.npz, train_image_list: not the ids in the shards, {example} for one")
    if len(np.unique(ids)) != count:
        yield _problem("hard_negative.npz, train_image_list: an id comes twice")
    if pool.min() < 0 or pool.max() >= count:
        span = f"{pool.min()} to {pool.max()}"
        yield _problem(f"hard_negative.npz, train_hard_pool: expected indices from 0 below {count}, got {span}")
        return
    for row in np.flatnonzero(pool[:, 0] != np.arange(count))[:1]:
        yield _problem(
            f"hard_negative.npz, train_hard_pool: expected row {row} to begin with itself, got {pool[row, 0]}"
        )
    ascending = np.sort(pool, axis=1)
    for row in np.flatnonzero((ascending[:, 1:] == ascending[:, :-1]).any(axis=1))[:1]:
        yield _problem(f"hard_negative.npz, train_hard_pool: row {row} names an image twice")


def _problem(message: str) -> Problem:
    return Problem("negatives", message)
