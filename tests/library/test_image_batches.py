"""Batches of images: in key order, loaded ahead, few in memory."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from typing import Any

import pytest

from region_features.images.batches import BatchLoader
from region_features.records.item import CaptionedImage, ImageItem
from region_features.records.plan import ImageRef, ShardKey


def captioned(img_id: str) -> CaptionedImage:
    return CaptionedImage(ImageRef("photos", img_id, f"photos/{img_id}.png", 1), None)


def shard_of(count: int, number: int = 0) -> ShardKey:
    return ShardKey("photos", number, 2, count)


def numbered(count: int) -> list[CaptionedImage]:
    return [captioned(str(number)) for number in range(count)]


@dataclass(eq=False)
class Loaded:
    """Stand-in for a prepared image."""

    img_id: str


@dataclass
class FakeLoad:
    """Counts the calls and the loaded images that are still referenced."""

    live: set[int] = field(default_factory=set)
    peak: int = 0
    calls: int = 0
    lock: Any = field(default_factory=threading.Lock)
    called: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, shard: ShardKey, image: CaptionedImage) -> tuple[ImageItem, Any]:
        loaded = Loaded(image.ref.img_id)
        with self.lock:
            self.calls += 1
            self.live.add(id(loaded))
            self.peak = max(self.peak, len(self.live))
        weakref.finalize(loaded, self.live.discard, id(loaded))
        with self.called:
            self.called.notify_all()
        return ImageItem(shard, image, ""), loaded


@pytest.mark.parametrize(
    ("count", "size", "sizes"), [(0, 3, []), (1, 3, [1]), (3, 3, [3]), (7, 3, [3, 3, 1]), (3, 1, [1] * 3), (2, 99, [2])]
)
def test_all_batches_but_the_last_are_full(count: int, size: int, sizes: list[int]) -> None:
    loader = BatchLoader(FakeLoad(), size)
    loader.add(shard_of(count), numbered(count))
    assert [len(batch) for batch in loader.batches()] == sizes
    loader.close()


def test_images_come_in_lmdb_key_order() -> None:
    loader = BatchLoader(FakeLoad(), 4)
    loader.add(shard_of(6), (captioned(name) for name in ("b_9", "a_10", "z_100", "x_0", "é", "Z")))
    names = [item.image.ref.img_id for batch in loader.batches() for item, _ in batch]
    assert names == ["x_0", "a_10", "z_100", "b_9", "Z", "é"]
    loader.close()


def test_at_most_two_batches_are_in_memory() -> None:
    load = FakeLoad()
    loader = BatchLoader(load, 10)
    seen = 0
    for number in range(2):
        loader.add(shard_of(45, number), numbered(45))
    for _ in range(2):
        for batch in loader.batches():
            seen += len(batch)
            assert load.calls <= seen + 10 + 1
            del batch
    assert seen == load.calls == 90
    loader.close()
    assert load.peak <= 2 * 10 + 8  # and one image in each of eight threads
    assert not load.live


def test_the_next_shard_is_loaded_while_the_last_batch_is_in_use() -> None:
    load = FakeLoad()
    loader = BatchLoader(load, 3)
    for number in range(2):
        loader.add(shard_of(5, number), numbered(5))
    assert loader.shards == 2
    sizes = []
    for batch in loader.batches():
        sizes.append([item.shard.number for item, _ in batch])
    assert sizes == [[0, 0, 0], [0, 0]]
    with load.called:
        assert load.called.wait_for(lambda: load.calls == 5 + 3, timeout=60)
    assert loader.shards == 1
    assert [len(batch) for batch in loader.batches()] == [3, 2]
    loader.close()


def test_an_exception_while_loading_reaches_the_consumer() -> None:
    def fail(shard: ShardKey, image: CaptionedImage) -> Any:
        raise MemoryError(image.ref.img_id)

    loader = BatchLoader(fail, 2)
    loader.add(shard_of(3), numbered(3))
    with pytest.raises(MemoryError, match="0"):
        next(loader.batches())
    loader.close()


def test_closing_early_leaves_no_threads() -> None:
    before = set(threading.enumerate())
    loader = BatchLoader(FakeLoad(), 5)
    loader.add(shard_of(40), numbered(40))
    next(loader.batches())
    loader.close()
    assert not set(threading.enumerate()) - before
