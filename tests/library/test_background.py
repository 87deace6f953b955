"""Work in other threads: order, errors, bound and end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from region_features.background import in_background, in_threads


def test_items_come_in_order_from_one_other_thread() -> None:
    threads = []

    def items() -> Iterator[int]:
        for number in range(20):
            threads.append(threading.current_thread())
            yield number

    assert list(in_background(items(), 2)) == list(range(20))
    assert set(threads).isdisjoint({threading.current_thread()}) and len(set(threads)) == 1


def test_an_exception_is_raised_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("from the other thread")

    running = in_background(items(), 2)
    assert next(running) == 1
    with pytest.raises(KeyError, match="from the other thread"):
        next(running)


@pytest.mark.parametrize("ahead", [1, 3])
def test_the_thread_runs_at_most_ahead_and_ends_on_close(ahead: int) -> None:
    made: list[int] = []
    full = threading.Event()

    def items() -> Iterator[int]:
        while True:
            made.append(len(made))
            if len(made) == ahead + 2:  # one taken, `ahead` in the queue, one held by the thread
                full.set()
            yield made[-1]

    before = set(threading.enumerate())
    running = in_background(items(), ahead)
    assert next(running) == 0
    assert full.wait(10)
    assert not threading.Event().wait(0.1) and len(made) == ahead + 2
    running.close()
    assert set(threading.enumerate()) == before


def test_work_in_threads_comes_in_the_order_of_the_items() -> None:
    assert list(in_threads(lambda number: number * 2, range(1000), 3)) == [number * 2 for number in range(1000)]
    assert list(in_threads(str, [], 3)) == []


def test_few_items_are_spread_over_the_threads() -> None:
    meeting = threading.Barrier(3, timeout=60)
    assert list(in_threads(lambda item: (meeting.wait() >= 0) and item, "abc", 3)) == ["a", "b", "c"]


def test_no_more_work_begins_after_an_exception() -> None:
    begun = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise KeyError("the first")

    with pytest.raises(KeyError, match="the first"):
        list(in_threads(work, range(100_000), 1))
    assert len(begun) < 100_000
