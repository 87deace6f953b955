"""The benchmark of long runs: its figures are what they claim to be, and a leak fails it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import long_run
from benchmarks.long_run import Sample, growth, rates


def samples_of(*written: int, cpu: float = 2.0, leak: float = 0.0) -> list[Sample]:
    """Make samples a second apart, of a process that takes `cpu` seconds of the processor in each."""
    return [Sample(t, cpu * t, count, 100 + leak * t, 20, 8) for t, count in enumerate(written)]


def test_rates_are_of_each_tenth_of_the_images() -> None:
    even = rates(samples_of(*range(1, 1001, 50), 1000), 1000)
    assert len(even) == 10
    assert even[1] == pytest.approx((50, 25)) and even[9] == pytest.approx((50, 25), rel=0.05)
    slower = rates(samples_of(1, 500, 700, 900, 1000), 1000)
    assert slower[1] == pytest.approx((499, 249.5)) and slower[9] == pytest.approx((100, 50))


def test_growth_compares_the_second_quarter_with_the_last() -> None:
    flat = samples_of(0, 0, *range(1, 9))
    assert growth(flat) == {"memory in MB": (100, 100), "open files": (20, 20), "threads": (8, 8)}
    assert growth(samples_of(0, 0, *range(1, 9), leak=10))["memory in MB"] == (145, 185)
    with pytest.raises(ValueError, match="at least 4 samples of a run at work, got 1"):
        growth(samples_of(0, 0, 1))


def test_the_program_is_watched_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_run, "_INTERVAL_SECONDS", 0.02)
    peak, samples = long_run.measure(300, 0, str(long_run.ROOT / "tests/data/tiny.caffemodel"), tmp_path)
    assert samples[-1].written == 300 and samples[-2].written < 300
    assert peak >= max(sample.memory_mb for sample in samples) > 50
    assert all(sample.files > 0 and sample.threads > 1 for sample in samples)


@pytest.mark.parametrize(
    ("flags", "samples", "peak", "status"),
    [
        ([], samples_of(*range(1, 1001, 50), 1000), 599, 0),
        ([], samples_of(*range(1, 1001, 50), 1000), 601, 1),
        ([], samples_of(1, 500, 700, 900, 1000), 100, 1),
        (["--minutes", "1"], samples_of(*range(1, 9)), 100, 0),
        (["--minutes", "1"], samples_of(*range(1, 9), leak=10), 100, 1),
    ],
    ids=["flat", "too much memory", "slower", "soak", "leak"],
)
def test_the_exit_status_says_whether_it_stays_flat(
    flags: list[str], samples: list[Sample], peak: float, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_run, "measure", lambda *_: (peak, samples))
    assert long_run.main(["--images", "1000", *flags]) == status
