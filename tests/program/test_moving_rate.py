"""The rate of what goes on now, without the start-up, and the time that the rest will take."""

from __future__ import annotations

import pytest

from beam_pipeline.progress.moving_rate import MovingRate


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_start_up_is_no_part_of_the_rate() -> None:
    clock = Clock()
    rate = MovingRate(clock)
    rate.update(0)
    clock.now = 50.0  # the network is loaded, and the first image came
    rate.update(1)
    assert rate.rate == 0.0 and rate.seconds_left(21) is None
    for number in range(2, 12):
        clock.now += 2.0
        rate.update(number)
    assert rate.rate == rate.mean_rate == 0.5
    assert rate.seconds_left(21) == 20.0
    clock.now += 1.0  # the time left falls between two images, too
    assert rate.seconds_left(21) == 19.0


def test_the_rate_is_that_of_the_last_minute() -> None:
    clock = Clock()
    rate = MovingRate(clock)
    done = 0
    for step in [100] * 60 + [1] * 70:  # records taken over are fast, images that are detected slow
        clock.now += 1.0
        done += step
        rate.update(done)
    assert rate.rate == 1.0 and rate.seconds_left(done + 30) == 30.0
    assert rate.mean_rate == pytest.approx((59 * 100 + 70) / 129)


def test_the_rate_falls_while_nothing_comes() -> None:
    clock = Clock()
    rate = MovingRate(clock)
    for number in range(1, 12):
        clock.now += 1.0
        rate.update(number)
    clock.now += 1.0
    assert rate.rate == 1.0
    clock.now += 9.0
    assert rate.rate == pytest.approx(11 / 20) and (rate.seconds_left(111) or 0) > 150


def test_a_slow_network_has_a_rate_of_its_last_images() -> None:
    clock = Clock()
    rate = MovingRate(clock)
    for number in range(1, 20):
        clock.now += 40.0
        rate.update(number)
    assert rate.rate == pytest.approx(1 / 40)


def test_what_begins_anew_has_a_rate_of_its_own() -> None:
    clock = Clock()
    rate = MovingRate(clock)
    for done in (10, 20, 5, 6):
        clock.now += 1.0
        rate.update(done)
    assert rate.rate == rate.mean_rate == 1.0
