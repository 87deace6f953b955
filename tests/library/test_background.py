from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from region_features.background import in_background


def test_order_and_thread() -> None:
    threads = []

    def items() -> Iterator[int]:
        for number in range(20):
            threads.append(threading.current_thread())
            yield number

    assert list(in_background(items(), 2)) == list(range(20))
    assert set(threads).isdisjoint({threading.current_thread()}) and len(set(threads)) == 1


def test_exceptions_cross_after_the_items_before_them() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("from the other thread")

    running = in_background(items(), 2)
    assert next(running) == 1
    with pytest.raises(KeyError, match="from the other thread"):
        next(running)


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_further_ahead_and_closing_ends_the_thread(ahead: int) -> None:
    made: list[int] = []
    full = threading.Event()

    def items() -> Iterator[int]:
        while True:
            made.append(len(made))
            if len(made) == ahead + 2:  # one taken, `ahead` waiting, one in the thread's hand
                full.set()
            yield made[-1]

    before = set(threading.enumerate())
    running = in_background(items(), ahead)
    assert next(running) == 0
    assert full.wait(10)
    assert not threading.Event().wait(0.1) and len(made) == ahead + 2
    running.close()
    assert set(threading.enumerate()) == before
