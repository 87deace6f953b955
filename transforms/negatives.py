"""Hard negatives for retrieval training: each image's nearest others by mean-pooled features.

N: images with captions of the training splits and a record; D: feature width; P: columns of the pool.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from numpy.typing import NDArray

from region_features.background import in_background
from region_features.formats.hard_negatives import encode_npz, encode_pickle
from region_features.formats.tfrecord import read_records
from region_features.negatives.mean_features import (
    MeanFeature,
    MeanFeatures,
    collect_means,
    decode_mean_features,
    train_images,
)
from region_features.negatives.neighbours import Product, cpu_product, nearest_neighbours
from region_features.records.item import ImageCaptions
from region_features.records.stats import STATS_SUFFIX, ShardStats
from transforms import files, metrics

PICKLE, ARRAYS, SOURCE = "hard_negative.pkl", "hard_negative.npz", "hard_negative.source.json"
IMAGES_READ, IMAGES_COMPARED = "negatives_images_read", "negatives_images_compared"
_RECORDS_AHEAD = 16

# dataset_coco.json's URI -> (img_id, captions) of its good rows, in file order.
ReadCaptions = Callable[[str], Iterable[tuple[str, ImageCaptions]]]
OnProgress = Callable[[str, int], None]


@dataclass(frozen=True)
class NegativesJob:
    """What the hard negatives are built from.

    Attributes:
        output: folder of the files.
        shards: the shards' paths.
        captions: dataset_coco.json.
        pool: images a row, the row's own included.
        device: `auto`, `cpu` or `cuda`; the result does not depend on it.
        source_digest: hex digest of the shards' content; files that carry it already are left as they are.
    """

    output: str
    shards: tuple[str, ...]
    captions: str
    pool: int
    device: str
    source_digest: str


@dataclass(frozen=True)
class NegativesResult:
    """What was built.

    Attributes:
        output: the folder.
        images: N, the images of the pool.
        columns: P.
        images_left_out: records of images without captions, or with those of another split.
        captions_left_out: training images with captions that have no record.
        file_bytes: file name -> bytes.
        skipped: whether it was there already.
    """

    output: str
    images: int
    columns: int
    images_left_out: int
    captions_left_out: int
    file_bytes: dict[str, int]
    skipped: bool


def read_mean_features(
    shards: Sequence[str], images: Mapping[str, int], on_progress: OnProgress | None = None
) -> MeanFeatures:
    """Reads the mean-pooled features of `images` from the shards; shards whose stats file names none are not opened.

    Args:
        shards: paths.
        images: see `train_images`.
        on_progress: called with IMAGES_READ and the records read so far.

    Raises:
        ValueError: see `collect_means`, or a shard is damaged; names shard and image.
        OSError: a shard or its stats file cannot be read.
    """
    wanted, left_out = _shards_with(shards, images)

    def counted(means: Iterable[MeanFeature]) -> Iterator[MeanFeature]:
        for done, mean in enumerate(means, start=1):
            yield mean
            if on_progress:
                on_progress(IMAGES_READ, done)

    with closing(in_background(_read_means(wanted), _RECORDS_AHEAD)) as means:
        found = collect_means(images, counted(means))
    return replace(found, images_left_out=found.images_left_out + left_out)


def _shards_with(shards: Sequence[str], images: Mapping[str, int]) -> tuple[list[str], int]:
    """The shards that may hold one of the images, and how many records the others hold."""
    stats = files.read_many([shard + STATS_SUFFIX for shard in shards])
    wanted, left_out = [], 0
    for shard, data in zip(shards, stats, strict=True):
        ids = ShardStats.from_json(data, shard + STATS_SUFFIX).ids
        if any(img_id in images for img_id in ids):
            wanted.append(shard)
        else:
            left_out += len(ids)
    return wanted, left_out


def _read_means(shards: Iterable[str]) -> Iterator[MeanFeature]:
    for shard in shards:
        with FileSystems.open(shard, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            for data in read_records(stream, shard):
                yield MeanFeature(shard, *decode_mean_features(data, shard))


def product_on(device: str) -> Callable[[NDArray[np.float32]], Product]:
    """Where the products are computed: numpy for `cpu`, torch for `cuda`; `auto` is `cuda` where torch finds a GPU.

    Raises:
        ValueError: `cuda` on a machine without a GPU that torch can use.
    """
    if device == "cpu":
        return cpu_product
    try:
        import torch

        available = torch.cuda.is_available()
    except ImportError:
        available = False
    if available:
        return torch_product
    if device == "cuda":
        raise ValueError("--device cuda: expected a GPU that torch can use, found none; use --device cpu or auto")
    return cpu_product


def torch_product(points: NDArray[np.float32], device: str = "cuda") -> Product:
    """Products by torch, the points (N, D) kept on the device."""
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


def build_negatives(
    job: NegativesJob, read_captions: ReadCaptions, on_progress: OnProgress | None = None
) -> NegativesResult:
    """Builds hard_negative.pkl and hard_negative.npz, and hard_negative.source.json that says what they are made of.

    Both hold `train_hard_pool`, int64 (N, P): row i the P = min(pool, N) images nearest to image i by Euclidean
    distance between the means of their boxes' features, by rising distance, ties by index, column 0 being i itself. And
    `train_image_list`, the coco ids of the N images (a list in the pickle, int64 (N,) in the npz): those of the splits
    `train` and `restval` that have a record, in the order of train_ann.jsonl. The same input gives the same bytes.

    Args:
        job: what to build and where.
        read_captions: reads dataset_coco.json.
        on_progress: called with IMAGES_READ or IMAGES_COMPARED, and the images that are done so far.

    Raises:
        ValueError: see `read_mean_features` and `train_images`, or the device is not there.
        OSError: a file cannot be read or written.
    """
    made_of = {
        "source_digest": job.source_digest,
        "captions_sha256": files.sha256_of(job.captions),
        "pool": job.pool,
    }
    if done := _already_built(job.output, made_of):
        return done
    product_of = product_on(job.device)
    means = read_mean_features(job.shards, train_images(read_captions(job.captions)), on_progress)

    def compared(images: int) -> None:
        if on_progress:
            on_progress(IMAGES_COMPARED, images)

    pool = nearest_neighbours(means.features, job.pool, product_of, on_progress=compared).index
    # Without the source file nothing is skipped: it goes first and comes last.
    files.delete_files([files.join(job.output, SOURCE)])
    encoded = ((PICKLE, encode_pickle), (ARRAYS, encode_npz))
    sizes = {
        name: files.publish_bytes(files.join(job.output, name), [encode(pool, means.coco_ids)])
        for name, encode in encoded
    }
    result = NegativesResult(
        output=job.output,
        images=len(pool),
        columns=pool.shape[1],
        images_left_out=means.images_left_out,
        captions_left_out=means.captions_left_out,
        file_bytes=sizes,
        skipped=False,
    )
    about = {name: value for name, value in asdict(result).items() if name not in ("output", "skipped")}
    source = json.dumps({"made_of": made_of, **about}, indent=1) + "\n"
    files.publish_bytes(files.join(job.output, SOURCE), [source.encode()])
    return result


def _already_built(output: str, made_of: dict[str, Any]) -> NegativesResult | None:
    present = files.list_folder(output)
    if SOURCE not in present:
        return None
    try:
        about = json.loads(files.read_bytes(files.join(output, SOURCE)))
        same = about.pop("made_of") == made_of
        result = NegativesResult(output=output, skipped=True, **about)
        whole = all(present.get(name) == result.file_bytes[name] for name in (PICKLE, ARRAYS))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # torn or foreign: build again
    return result if same and whole else None


@dataclass
class BuildNegatives(beam.PTransform):
    """NegativesJobs -> their NegativesResults; counts `negatives_images_read` and `negatives_images_compared`.

    Attributes:
        read_captions: a module's function that reads dataset_coco.json.
    """

    read_captions: ReadCaptions

    def expand(self, jobs: beam.PCollection[NegativesJob]) -> beam.PCollection[NegativesResult]:
        """Builds each."""
        return jobs | "BuildEach" >> beam.Map(_build_counted, self.read_captions)  # NegativesResult


def _build_counted(job: NegativesJob, read_captions: ReadCaptions) -> NegativesResult:
    counted = {IMAGES_READ: 0, IMAGES_COMPARED: 0}

    def count(name: str, done: int) -> None:
        metrics.count(name, done - counted[name])
        counted[name] = done

    return build_negatives(job, read_captions, count)
