"""Counters of a run: Beam's, and beside them those of this process for the progress display."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from apache_beam.metrics import Metrics

NAMESPACE = "region_features"
# Of this process alone: images that are detected, copied or imported, before their shard has them.
IMAGES_DETECTED = "images_detected"
# A local run's progress display reads these while the runner blocks.
_local_counts: Counter[str] = Counter()
_lock = threading.Lock()


def count(name: str, amount: int = 1) -> None:
    """Add to Beam's counter of that name, which says the unit too, and to this process's own."""
    Metrics.counter(NAMESPACE, name).inc(amount)
    count_here(name, amount)


def count_here(name: str, amount: int = 1) -> None:
    """Add to this process's own counter alone."""
    with _lock:
        _local_counts[name] += amount


def local_counts() -> Mapping[str, int]:
    """Return this process's counts so far."""
    with _lock:
        return dict(_local_counts)


def reset_local_counts() -> None:
    """Set this process's counts to zero, for a new run in the same process."""
    with _lock:
        _local_counts.clear()
