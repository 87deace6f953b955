"""Work in parts that shrink when the GPU's memory is too small for them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

_log = logging.getLogger("region_features")
_log.setLevel(logging.WARNING)

T = TypeVar("T")


def run_with_oom_backoff(count: int, size: int, work: Callable[[slice], T], what: str) -> tuple[list[T], int]:
    """Does `count` things in parts; out of GPU memory, the part is halved and tried again, and said so.

    Args:
        count: how many things there are.
        size: how many at once, to begin with.
        work: does the things of a slice.
        what: they are, for the message.

    Returns:
        What `work` gave for each part, in order, and the size that fitted, for the next time.

    Raises:
        torch.OutOfMemoryError: there is too little memory for one alone.
    """
    results: list[T] = []
    done = 0
    while done < count:
        part = min(size, count - done)
        try:
            results.append(work(slice(done, done + part)))
            done += part
            continue
        except torch.OutOfMemoryError:
            if part == 1:
                raise
        # Here the error's traceback no longer holds the part's tensors.
        torch.cuda.empty_cache()
        size = part // 2
        _log.warning("out of GPU memory with %d %s at once: from now on %d", part, what, size)
    return results, size
