"""Hard negatives for retrieval training: each image's nearest others by mean-pooled features.

N: images with captions of the training splits and a record; D: feature width; P: columns of the pool.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.background import in_background
from region_features.detector.device import choose_device
from region_features.exports.base import Copy, Export, OnProgress, ShardImage, Sources, Target
from region_features.formats.hard_negatives import encode_npz, encode_pickle
from region_features.negatives.mean_features import (
    MeanFeature,
    MeanFeatures,
    collect_means,
    decode_mean_features,
    train_images,
)
from region_features.negatives.neighbours import Product, cpu_product, nearest_neighbours
from region_features.records.build_note import BuildNote
from region_features.records.coco import TRAIN_SPLITS, is_coco_id
from region_features.records.key import lmdb_key
from region_features.validation.hard_negatives import check_negatives
from region_features.validation.record import Problem

PICKLE, ARRAYS = "hard_negative.pkl", "hard_negative.npz"
_RECORDS_AHEAD = 16


@dataclass(frozen=True)
class HardNegativesExport(Export):
    """`hard_negative.pkl` for VOLTA, and the same arrays as `hard_negative.npz`, which is read without pickle.

    Both hold `train_hard_pool`, int64 (N, P): row i the P = min(pool, N) images nearest to image i by Euclidean
    distance between the means of their boxes' features, by rising distance, ties by index, column 0 being i itself. And
    `train_image_list`, the coco ids of the N images (a list in the pickle, int64 (N,) in the npz): those of the splits
    `train` and `restval` that have a record, in the order of train_ann.jsonl.
    """

    negatives_pool: int = 100
    device: str = "auto"

    name = "negatives"
    needs_captions = True

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name the one pool of all sets."""
        yield Target("hard_negative", tuple(sets), (PICKLE, ARRAYS))

    def settings(self) -> dict[str, Any]:
        """Return the pool's width; the result does not depend on the device."""
        return {"negatives_pool": self.negatives_pool}

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, int]:
        """Write both files."""
        assert sources.read_captions is not None
        product_of = product_on(self.device)
        images = train_images((entry.img_id, entry) for entry in sources.read_captions())
        means = read_mean_features(sources, images, on_progress)

        def compared(count: int) -> None:
            on_progress("images_compared", count)

        pool = nearest_neighbours(means.features, self.negatives_pool, product_of, on_progress=compared).index
        Path(folder, PICKLE).write_bytes(encode_pickle(pool, means.coco_ids))
        Path(folder, ARRAYS).write_bytes(encode_npz(pool, means.coco_ids))
        return {
            "images": len(pool),
            "columns": pool.shape[1],
            "images_left_out": means.images_left_out,
            "captions_left_out": means.captions_left_out,
        }

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Read both files."""
        return _NegativesCopy(*(Path(os.path.join(folder, name)).read_bytes() for name in (ARRAYS, PICKLE)))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how large the pool is."""
        return f"{row['images']} images x {row['columns']}"


def read_mean_features(sources: Sources, images: Mapping[str, int | str], on_progress: OnProgress) -> MeanFeatures:
    """Read the mean-pooled features of some images; shards that hold none of them are not opened.

    Args:
        sources: the shards.
        images: see `train_images`.
        on_progress: called with `images_read` and the records read so far.

    Raises:
        ValueError: see `collect_means`, or a shard is damaged; names shard and image.
        OSError: a shard or its stats file cannot be read.
    """
    needed, left_out = [], 0
    for path in sources.paths:
        ids = sources.read_ids(path)
        if any(img_id in images for img_id in ids):
            needed.append(path)
        else:
            left_out += len(ids)

    def counted(means: Iterable[MeanFeature]) -> Iterator[MeanFeature]:
        for number, mean in enumerate(means, start=1):
            yield mean
            on_progress("images_read", number)

    with closing(in_background(_read_means(sources, needed), _RECORDS_AHEAD)) as means:
        features = collect_means(images, counted(means))
    return replace(features, images_left_out=features.images_left_out + left_out)


def _read_means(sources: Sources, paths: Iterable[str]) -> Iterator[MeanFeature]:
    for path in paths:
        for data in sources.read_shard(path):
            yield MeanFeature(path, *decode_mean_features(data, path))


def product_on(device: str) -> Callable[[NDArray[np.float32]], Product]:
    """Choose numpy or, on a GPU, torch for the products of the points.

    Raises:
        ValueError: `cuda` on a machine without a GPU that torch can use.
    """
    return torch_product if choose_device(device) == "cuda" else cpu_product


def torch_product(points: NDArray[np.float32], device: str = "cuda") -> Product:
    """Compute products by torch, the points (N, D) kept on the device."""
    import torch

    placed = torch.from_numpy(points).to(device)

    def product(rows: slice | NDArray[np.intp], columns: slice) -> NDArray[np.float32]:
        left = placed[rows if isinstance(rows, slice) else torch.from_numpy(rows).to(device)]
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")  # TF32 would break the bound on the products' error
        try:
            return (left @ placed[columns].T).cpu().numpy()
        finally:
            torch.set_float32_matmul_precision(before)

    return product


class _NegativesCopy(Copy):
    def __init__(self, arrays: bytes, pickled: bytes) -> None:
        self._arrays, self._pickled = arrays, pickled

    def check_rest(self, images: Sequence[ShardImage], whole: bool) -> Iterator[Problem]:
        if not whole:
            return
        ids = [image.img_id for image in images if image.split in TRAIN_SPLITS]
        coco_ids = [int(lmdb_key(img_id)) for img_id in ids] if all(map(is_coco_id, ids)) else None
        yield from check_negatives(self._arrays, self._pickled, len(ids), coco_ids)
