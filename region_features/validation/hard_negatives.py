"""What can be wrong with the hard negatives' two files.

N: images of the pool; P: columns.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection, Iterator

import numpy as np

from region_features.formats.hard_negatives import encode_pickle
from region_features.validation.record import Problem


def check_negatives(npz: bytes, pickled: bytes, images: int, coco_ids: Collection[int] | None) -> Iterator[Problem]:
    """Shapes, ids and the range of the indices; the pickle is compared with the npz, and never unpickled.

    Args:
        npz: hard_negative.npz's content.
        pickled: hard_negative.pkl's content.
        images: how many training images with captions the shards hold.
        coco_ids: their ids, None where file names do not tell them.
    """
    try:
        with np.load(io.BytesIO(npz), allow_pickle=False) as arrays:
            pool, ids = arrays["train_hard_pool"], arrays["train_image_list"]
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        yield _problem(f"hard_negative.npz: expected the arrays of hard negatives, got {error!r}")
        return
    shaped = pool.ndim == 2 and ids.shape == pool.shape[:1] and pool.dtype == ids.dtype == np.int64
    if not shaped or not pool.size:
        got = f"{pool.dtype} {pool.shape} and {ids.dtype} {ids.shape}"
        yield _problem(f"hard_negative.npz: expected int64 of (N, P) and (N,), got {got}")
        return
    if pickled != encode_pickle(pool, ids):
        yield _problem("hard_negative.pkl: expected the pickle of what hard_negative.npz holds, got other bytes")
    count = len(pool)
    if count != images:
        yield _problem(f"hard_negative.npz: expected {images} images with captions of training, got {count}")
    elif coco_ids is not None and set(ids.tolist()) != set(coco_ids):
        strange = sorted(set(ids.tolist()) - set(coco_ids)) or sorted(set(coco_ids) - set(ids.tolist()))
        yield _problem(f"hard_negative.npz, train_image_list: not the ids in the shards, {strange[0]} for one")
    if len(np.unique(ids)) != count:
        yield _problem("hard_negative.npz, train_image_list: an id comes twice")
    if pool.min() < 0 or pool.max() >= count:
        span = f"{pool.min()} to {pool.max()}"
        yield _problem(f"hard_negative.npz, train_hard_pool: expected indices from 0 below {count}, got {span}")
        return
    others = np.flatnonzero(pool[:, 0] != np.arange(count))
    if len(others):
        row = others[0]
        yield _problem(
            f"hard_negative.npz, train_hard_pool: expected row {row} to begin with itself, got {pool[row, 0]}"
        )
    ordered = np.sort(pool, axis=1)
    twice = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    if len(twice):
        yield _problem(f"hard_negative.npz, train_hard_pool: row {twice[0]} names an image twice")


def _problem(message: str) -> Problem:
    return Problem("negatives", message)
