"""What is counted while a run works, and when its failures are too many."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence

from apache_beam.metrics import Metrics

from region_features.records.failure import Failure

NAMESPACE = "region_features"
# Counts of this process, which a local run's progress display reads while the runner blocks.
_local_counts: Counter[str] = Counter()
_lock = threading.Lock()


def count(name: str, amount: int = 1) -> None:
    """Add to Beam's counter of that name (its unit is the name) and to this process's own."""
    Metrics.counter(NAMESPACE, name).inc(amount)
    with _lock:
        _local_counts[name] += amount


def local_counts() -> Mapping[str, int]:
    """This process's counts so far."""
    with _lock:
        return dict(_local_counts)


def reset_local_counts() -> None:
    """Start counting anew, for a new run in the same process."""
    with _lock:
        _local_counts.clear()


def excess_failures(failures: Sequence[Failure], total: int, threshold: float) -> str | None:
    """Why a run counts as failed, or None while the failed share stays within the threshold.

    Args:
        failures: the images that gave no record.
        total: images that went in.
        threshold: largest allowed share, 0 to 1.
    """
    # A quotient equals the decimal that the user wrote; threshold * total does not (0.29 * 100 < 29).
    if not failures or len(failures) / total <= threshold:
        return None
    (stage, reason), times = Counter((f.stage, f.reason) for f in failures).most_common(1)[0]
    return (
        f"{len(failures)} of {total} images failed, more than --failure_threshold {threshold:g} allows; "
        f"commonest reason ({times} times), in stage {stage}: {reason}"
    )
