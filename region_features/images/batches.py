"""Batches of images, loaded by threads ahead of the detector."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from region_features.records.failure import ImageFailure
from region_features.records.item import CaptionedImage, ImageItem
from region_features.records.plan import ShardKey
from region_features.records.prepared_image import PreparedImage

Loaded = tuple[ImageItem, PreparedImage | ImageFailure]
_THREADS = 8


class ImageBatch(list[Loaded]):
    """Images of one shard that go to the detector together, and those that could not be loaded."""


class BatchLoader:
    """Batches of one shard after the other, in LMDB key order; threads keep one batch ahead of who takes them.

    They go on with the next shard, if it is known, while the last batch of a shard is taken. Memory holds at most two
    batches of prepared images.
    """

    def __init__(self, load: Callable[[ShardKey, CaptionedImage], Loaded], batch_size: int) -> None:
        """Takes what loads one image; called in threads.

        Args:
            load: gives the image, or the failure that it is; what it raises reaches who takes the batches.
            batch_size: images a batch; a shard's last may be smaller.
        """
        self._load, self._batch_size = load, batch_size
        self._pool = ThreadPoolExecutor(_THREADS)
        self._counts: deque[int] = deque()
        self._waiting: deque[tuple[ShardKey, CaptionedImage]] = deque()
        self._loading: deque[Future[Loaded]] = deque()

    def add(self, shard: ShardKey, images: Iterable[CaptionedImage]) -> None:
        """Line up the images of a shard, in any order."""
        ordered = sorted(images, key=lambda image: image.ref.key)
        self._counts.append(len(ordered))
        self._waiting.extend((shard, image) for image in ordered)
        self._start(self._batch_size)

    @property
    def shards(self) -> int:
        """How many have been added and not been taken."""
        return len(self._counts)

    def batches(self) -> Iterator[ImageBatch]:
        """The batches of the shard that has waited longest."""
        left = self._counts.popleft()
        while left:
            batch = ImageBatch(self._next() for _ in range(min(left, self._batch_size)))
            left -= len(batch)
            yield batch
            del batch

    def close(self) -> None:
        """Leave no thread behind; images that nobody took are dropped."""
        self._pool.shutdown(cancel_futures=True)

    def _next(self) -> Loaded:
        self._start(self._batch_size + 1)
        return self._loading.popleft().result()

    def _start(self, ahead: int) -> None:
        while self._waiting and len(self._loading) < ahead:
            self._loading.append(self._pool.submit(self._load, *self._waiting.popleft()))
