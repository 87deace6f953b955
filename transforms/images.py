"""Images of a shard: read, checked, decoded and prepared ahead of the detector, in key order."""

from __future__ import annotations

import functools
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from transforms import files
from transforms.records.decode import decode_image
from transforms.records.given_boxes import check_inside
from transforms.records.image_failure import ImageFailure
from transforms.records.lmdb_key import lmdb_key
from transforms.records.plan import ImageRef, ShardKey, decode_plan
from transforms.records.prepared_image import PreparedImage
from transforms.records.shard_item import CaptionedImage, ShardItem

Prepare = Callable[[str, NDArray[np.uint8]], PreparedImage]
Batch = list[tuple[ShardItem, PreparedImage | ImageFailure]]
_READERS = 8
# No real image needs more encoded bytes for each pixel that it may have, and for its metadata.
_BYTES_PER_PIXEL = 8
_METADATA_BYTES = 16 << 20


def read_plan(plan_uri: str, todo: frozenset[str]) -> Iterator[tuple[str, tuple[ShardKey, ImageRef]]]:
    """(img_id, (shard, image)) of every planned image whose shard's file name is in `todo`."""
    plan = decode_plan(files.read_bytes(plan_uri), plan_uri)
    for key, refs in plan.shards.items():
        if key.filename in todo:
            for ref in refs:
                yield ref.img_id, (key, ref)


def read_image(uri: str, pixel_limit: int, exif: bool = False) -> tuple[str, NDArray[np.uint8]]:
    """Read and decode one image, see `decode_image`.

    Returns:
        Hex SHA-256 of the encoded file, and uint8 (H, W, 3) BGR pixels.

    Raises:
        ImageFailure: stage `read` or `decode`, with the reason.
    """
    try:
        data = files.read_bytes(uri, limit=pixel_limit * _BYTES_PER_PIXEL + _METADATA_BYTES)
    except OSError as error:
        raise ImageFailure("read", error.strerror or str(error)) from error
    except Exception as error:  # remote file systems raise classes of their own
        raise ImageFailure("read", f"{type(error).__name__}: {error}") from error
    return hashlib.sha256(data).hexdigest(), decode_image(data, pixel_limit, exif)


def load_item(
    shard: ShardKey, image: CaptionedImage, prepare: Prepare, pixel_limit: int, exif: bool = False
) -> tuple[ShardItem, PreparedImage | ImageFailure]:
    """One image as the detector takes it, with the boxes that were given for it, or why there is none."""
    try:
        sha256, pixels = read_image(image.ref.uri, pixel_limit, exif)
        boxes = check_inside(image.boxes, *pixels.shape[:2]) if image.boxes else None
        prepared = prepare(image.ref.img_id, pixels)
        return ShardItem(shard, image, sha256), prepared if boxes is None else replace(prepared, boxes=boxes)
    except ImageFailure as failure:
        return ShardItem(shard, image, ""), failure
    except Exception as error:  # whatever one image does to a library must not reach its neighbours
        return ShardItem(shard, image, ""), ImageFailure("decode", f"{type(error).__name__}: {error}")


def load_batches(
    shard: ShardKey, images: Iterable[CaptionedImage], load: Callable[..., object], batch_size: int
) -> Iterator[Batch]:
    """Batches of a shard in LMDB key order; a few threads keep one batch ahead of the consumer.

    Memory holds at most two batches of prepared images.
    """
    batch: Batch = []
    for item in _ahead(sorted(images, key=_by_lmdb_key), functools.partial(load, shard), batch_size):
        batch.append(item)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _ahead(items: Sequence[CaptionedImage], load: Callable[..., Any], depth: int) -> Iterator[Any]:
    """`load` of each item, in order; threads work up to `depth` items ahead."""
    with ThreadPoolExecutor(_READERS) as pool:
        pending: deque[Future] = deque()
        for item in items:
            pending.append(pool.submit(load, item))
            if len(pending) > depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _by_lmdb_key(image: CaptionedImage) -> bytes:
    return lmdb_key(image.ref.img_id)


class _LoadShard(beam.DoFn):
    def __init__(self, prepare: Prepare, pixel_limit: int, batch_size: int, exif: bool) -> None:
        self._load = functools.partial(load_item, prepare=prepare, pixel_limit=pixel_limit, exif=exif)
        self._batch_size = batch_size

    def process(self, element: tuple[ShardKey, Iterable[CaptionedImage]]) -> Iterator[Batch]:
        shard, images = element
        return load_batches(ShardKey(*shard), images, self._load, self._batch_size)


@dataclass
class LoadImages(beam.PTransform):
    """(shard, images) -> batches of (ShardItem, PreparedImage or ImageFailure); a batch never leaves its shard.

    Attributes:
        prepare: the detector's preprocessing, run in the reader threads.
        pixel_limit: largest allowed width x height.
        batch_size: images a batch.
        exif: turn images as their EXIF orientation says.
    """

    prepare: Prepare
    pixel_limit: int
    batch_size: int
    exif: bool = False

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Apply the DoFn."""
        load = _LoadShard(self.prepare, self.pixel_limit, self.batch_size, self.exif)
        return shards | "LoadShard" >> beam.ParDo(load)
