"""The counters of a run: Beam's and this process's own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam
import pytest
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline  # pytest collects what is called Test

from transforms.metrics import NAMESPACE, count, local_counts, reset_local_counts


@pytest.fixture(autouse=True)
def no_counts() -> Iterator[None]:
    reset_local_counts()
    yield
    reset_local_counts()


def count_image(number: int) -> int:
    count("images_read")
    count("bytes_read", 10 * number)
    return number


def test_counts_of_a_name_are_added_up() -> None:
    count("images_read")
    count("images_read", 4)
    count("bytes_read", 100)
    assert local_counts() == {"images_read": 5, "bytes_read": 100}


def test_no_count_of_a_thread_is_lost() -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_image, [1] * 4000))
    assert local_counts() == {"images_read": 4000, "bytes_read": 40_000}


def test_returned_counts_do_not_change_with_later_ones() -> None:
    count("images_read")
    before = local_counts()
    count("images_read")
    assert before == {"images_read": 1} and local_counts() == {"images_read": 2}


def test_a_new_run_starts_without_counts() -> None:
    count("images_read")
    reset_local_counts()
    assert local_counts() == {}
    count("images_failed")
    assert local_counts() == {"images_failed": 1}


def test_a_step_counts_in_beam_and_in_this_process_alike() -> None:
    pipeline = Pipeline()
    pipeline | beam.Create([1, 2, 3]) | beam.Map(count_image)
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    assert {counter.key.metric.name: counter.committed for counter in counters} == local_counts()
    assert local_counts() == {"images_read": 3, "bytes_read": 60}
