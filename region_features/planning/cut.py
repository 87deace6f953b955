"""How an image set is cut into shards, ranges of its LMDB keys: of equal size, or along earlier borders."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

IMAGES_PER_SHARD = 256


def equal_cut(total: int, num_shards: int | None) -> list[int]:
    """Return the sizes of the shards of a set, which differ by one image at most.

    Args:
        total: images of the set.
        num_shards: how many, at most one an image; None for the fewest of at most IMAGES_PER_SHARD images.
    """
    of = min(num_shards or -(-total // IMAGES_PER_SHARD), total)
    return [(number + 1) * total // of - number * total // of for number in range(of)]


def kept_cut(keys: Iterable[bytes], firsts: Sequence[bytes], sizes: Sequence[int]) -> list[int]:
    """Return the sizes of the shards of a set that was cut before, so that new images move the fewest borders.

    An image goes to the earlier shard in whose range its key lies. A range that holds more than twice what its shard
    held, and more than twice IMAGES_PER_SHARD, is cut anew; an empty one goes.

    Args:
        keys: of the set's images, ascending.
        firsts: first key of each earlier shard, ascending.
        sizes: images of each.
    """
    counts = [0] * len(firsts)
    for key in keys:
        counts[max(bisect_right(firsts, key) - 1, 0)] += 1
    cut: list[int] = []
    for count, size in zip(counts, sizes, strict=True):
        most = max(size, IMAGES_PER_SHARD)
        if count > 2 * most:
            cut += equal_cut(count, -(-count // most))
        elif count:
            cut.append(count)
    return cut
