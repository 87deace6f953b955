"""Load batches of images in threads, ahead of the detector."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from region_features.records.failure import ImageFailure
from region_features.records.item import CaptionedImage, ImageItem, TakenRecord
from region_features.records.plan import ShardKey
from region_features.records.prepared_image import PreparedImage

Loaded = tuple[ImageItem, PreparedImage | TakenRecord | ImageFailure]
_THREADS = 8


class ImageBatch(list[Loaded]):
    """Images of one shard that go to the detector together, and failures of images that could not be loaded."""


class BatchLoader:
    """Loads the batches of one shard after the other, in LMDB key order, with threads that stay one batch ahead.

    If the next shard is known, its first batch is loaded while the last batch of a shard is in use. Memory holds at
    most two batches of prepared images.

    Args:
        load: loads one image or returns its failure; called in threads, its exceptions are raised by `batches`.
        batch_size: images per batch; the last batch of a shard may be smaller.
    """

    def __init__(self, load: Callable[[ShardKey, CaptionedImage], Loaded], batch_size: int) -> None:
        self._load, self._batch_size = load, batch_size
        self._pool = ThreadPoolExecutor(_THREADS)
        self._counts: deque[int] = deque()
        self._waiting: deque[tuple[ShardKey, CaptionedImage]] = deque()
        self._loading: deque[Future[Loaded]] = deque()

    def add(self, shard: ShardKey, images: Iterable[CaptionedImage]) -> None:
        """Queue the images of a shard, given in any order."""
        ordered = sorted(images, key=lambda image: image.ref.key)
        self._counts.append(len(ordered))
        self._waiting.extend((shard, image) for image in ordered)
        self._start(self._batch_size)

    @property
    def shards(self) -> int:
        """Number of shards that were added and not yet taken."""
        return len(self._counts)

    def batches(self) -> Iterator[ImageBatch]:
        """Take the shard that was added first, and yield its batches."""
        left = self._counts.popleft()
        while left:
            batch = ImageBatch(self._next() for _ in range(min(left, self._batch_size)))
            left -= len(batch)
            yield batch
            del batch  # before the next batch is made

    def close(self) -> None:
        """Stop the threads, and drop the images that were not taken."""
        self._pool.shutdown(cancel_futures=True)

    def _next(self) -> Loaded:
        self._start(self._batch_size + 1)
        return self._loading.popleft().result()

    def _start(self, ahead: int) -> None:
        while self._waiting and len(self._loading) < ahead:
            self._loading.append(self._pool.submit(self._load, *self._waiting.popleft()))
