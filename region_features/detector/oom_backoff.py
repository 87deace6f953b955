"""Work in batches that shrink when a GPU's memory is too small for them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

_log = logging.getLogger("region_features")
_log.setLevel(logging.WARNING)

T = TypeVar("T")


def run_with_oom_backoff(count: int, size: int, work: Callable[[slice], T], what: str) -> tuple[list[T], int]:
    """Process `count` items in batches; if a batch runs out of GPU memory, halve it, warn and try again.

    Args:
        count: number of items.
        size: items of the first batches.
        work: processes the items of a slice.
        what: the items in words, for the warning.

    Returns:
        The results of `work`, in order, and the batch size that fitted, to begin with next time.

    Raises:
        torch.OutOfMemoryError: a single item needs more memory than there is.
    """
    results: list[T] = []
    done = 0
    while done < count:
        batch = min(size, count - done)
        try:
            results.append(work(slice(done, done + batch)))
            done += batch
            continue
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        # Only outside the handler does the error's traceback no longer hold the batch's tensors.
        torch.cuda.empty_cache()
        size = batch // 2
        _log.warning("out of GPU memory with %d %s at once: from now on %d", batch, what, size)
    return results, size
