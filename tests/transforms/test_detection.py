"""One image's trouble stays its own; a GPU that is asked for and missing is an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
import torch
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline  # pytest collects what is called Test
from apache_beam.testing.util import assert_that, equal_to

from region_features.detector.errors import DetectionError, DeviceLostError
from region_features.records.failure import ImageFailure
from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import RegionRecord
from region_features.records.settings import SelectionRule
from tests.conftest import TINY_WEIGHTS
from tests.samples.fakes import FakeHandler, fake_prepare, fake_record
from tests.samples.pinned import pin
from transforms.detection import (
    Example,
    RegionModelHandler,
    choose_device,
    detect_each,
    detect_regions,
    images_a_batch,
    prepare,
)
from transforms.input_files import PinnedFile


def image(img_id: str, shade: int = 100) -> PreparedImage:
    return fake_prepare(img_id, np.full((4, 5, 3), shade, np.uint8))


def told(results: Sequence[Any]) -> list[str]:
    return [f"{r.stage}: {r.reason}" if isinstance(r, ImageFailure) else r.img_id for r in results]


def fake_detect(images: Sequence[PreparedImage]) -> list[Any]:
    return [fake_record(image) for image in images]


EARLIER = ImageFailure("read", "No such file or directory")


def test_records_come_in_order_and_earlier_failures_pass_through() -> None:
    batch: list[Example] = [image("a"), EARLIER, image("b"), EARLIER, image("c")]
    assert told(detect_each(fake_detect, batch)) == ["a", told([EARLIER])[0], "b", told([EARLIER])[0], "c"]


@pytest.mark.parametrize("batch", [[], [EARLIER], [EARLIER, EARLIER]])
def test_a_batch_without_images_does_not_reach_the_detector(batch: list[Any]) -> None:
    def unreachable(images: Sequence[PreparedImage]) -> list[Any]:
        raise AssertionError(images)

    assert detect_each(unreachable, batch) == batch


def test_a_batch_that_fails_as_a_whole_is_detected_one_by_one() -> None:
    calls = []

    def detect(images: Sequence[PreparedImage]) -> list[Any]:
        calls.append([image.img_id for image in images])
        return fake_detect(images)

    batch: list[Example] = [image("a"), EARLIER, image("black", 0), image("c")]
    results = detect_each(detect, batch)
    assert told(results) == ["a", told([EARLIER])[0], "detect: ValueError: no proposal survives", "c"]
    assert calls == [["a", "black", "c"], ["a"], ["black"], ["c"]]
    whole = detect_each(detect, [image("a"), image("c")])
    np.testing.assert_array_equal(results[0].features, whole[0].features)


def test_one_image_that_fails_is_not_detected_twice() -> None:
    calls = []

    def detect(images: Sequence[PreparedImage]) -> list[Any]:
        calls.append(len(images))
        raise MemoryError("CUDA out of memory")

    assert told(detect_each(detect, [image("a")])) == ["detect: MemoryError: CUDA out of memory"]
    assert calls == [1]


def test_exceptions_in_the_results_are_failures() -> None:
    def detect(images: Sequence[PreparedImage]) -> list[Any]:
        return [fake_record(images[0]), DetectionError("16 x 16 is too\nsmall"), KeyError("x"), EARLIER]

    results = detect_each(detect, [image(name) for name in "abcd"])
    assert told(results) == ["a", "detect: 16 x 16 is too small", "detect: KeyError: 'x'", told([EARLIER])[0]]


def test_a_detection_error_of_the_batch_is_told_in_its_own_words() -> None:
    def detect(images: Sequence[PreparedImage]) -> list[Any]:
        raise DetectionError("no region")

    assert told(detect_each(detect, [image("a"), image("b")])) == ["detect: no region"] * 2


@pytest.mark.parametrize("surplus", [-1, 1])
def test_results_that_are_not_as_many_as_the_images_are_given_to_none(surplus: int) -> None:
    def detect(images: Sequence[PreparedImage]) -> list[Any]:
        return [fake_record(images[0])] * (len(images) + surplus)

    results = detect_each(detect, [image("a"), EARLIER, image("b")])
    words = f"detect: ValueError: expected 1 results of the detector, got {1 + surplus}"
    assert told(results) == [words, told([EARLIER])[0], words]


@pytest.mark.parametrize(
    ("device", "available", "chosen"),
    [
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("cuda", True, "cuda"),
    ],
)
def test_choose_device(device: str, available: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert choose_device(device) == chosen


def test_a_missing_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"--device cuda: expected a GPU.*use --device cpu or auto"):
        choose_device("cuda")


def test_the_handler_counts_pixels_and_takes_any_model() -> None:
    class Model:
        detect = staticmethod(fake_detect)

    handler = RegionModelHandler(PinnedFile("unread.caffemodel", ""), "cpu", SelectionRule())
    batch: list[Example] = [image("a"), EARLIER]
    assert handler.get_num_bytes(batch) == 4 * 5 * 3 * 4
    results = handler.run_inference(batch, Model())
    assert isinstance(results, list) and told(results) == ["a", told([EARLIER])[0]]


def keyed(element: tuple[str, RegionRecord | ImageFailure]) -> tuple[str, str]:
    return element[0], told([element[1]])[0]


def test_run_inference_keeps_keys_with_their_images() -> None:
    batches = [
        [("k1", image("a")), ("k2", EARLIER), ("k3", image("black", 0))],
        [("k4", EARLIER)],
        [("k5", image("b"))],
    ]
    with Pipeline() as pipeline:
        results = pipeline | beam.Create(batches) | detect_regions(FakeHandler()) | beam.Map(keyed)
        assert_that(
            results,
            equal_to(
                [
                    ("k1", "a"),
                    ("k2", told([EARLIER])[0]),
                    ("k3", "detect: ValueError: no proposal survives"),
                    ("k4", told([EARLIER])[0]),
                    ("k5", "b"),
                ]
            ),
        )


def test_a_lost_gpu_is_no_images_fault() -> None:
    def detect(images: Sequence[PreparedImage]) -> list[Any]:
        raise DeviceLostError("the GPU answers no more: CUDA error: misaligned address")

    with pytest.raises(DeviceLostError):
        detect_each(detect, [image("a"), image("b")])


SEEN: list[tuple[str, Any]] = []


def batch_of(names: str) -> list[tuple[str, Example]]:
    """Images of noise, and a failure in the place of x."""
    rng = np.random.default_rng(0)
    images = {name: prepare(name, rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)) for name in "abc"}
    return [(name, images.get(name, EARLIER)) for name in names]


def see(element: tuple[str, Any]) -> None:
    SEEN.append(element)


def test_networks_that_processes_share_give_the_same_records() -> None:
    found = {}
    for copies in (None, 2):
        SEEN.clear()
        handler = RegionModelHandler(pin(TINY_WEIGHTS), "cpu", SelectionRule(), model_copies=copies)
        with Pipeline() as pipeline:
            batches = pipeline | beam.Create(["axb", "c", "x"]) | beam.Map(batch_of)
            _ = batches | detect_regions(handler) | beam.Map(see)
        found[copies] = dict(SEEN)
    assert sorted(found[2]) == ["a", "b", "c", "x"]
    assert told([found[2]["x"]]) == told([EARLIER])
    for name in "abc":
        np.testing.assert_array_equal(found[None][name].features, found[2][name].features)


@pytest.mark.parametrize(
    ("wanted", "device", "available", "size"),
    [
        (None, "auto", False, 8),
        (None, "auto", True, 32),
        (None, "cpu", True, 8),
        (None, "cuda", True, 32),
        (3, "auto", True, 3),
    ],
)
def test_a_gpu_gets_larger_batches(
    wanted: int | None, device: str, available: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert images_a_batch(wanted, device) == size
