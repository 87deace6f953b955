"""Images for a detectron2 network are resized as detectron2 resizes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data.transforms import ResizeShortestEdge

from region_features.detector.detectron2.preprocess import InputSettings, input_settings, prepare, resized_size
from region_features.detector.errors import ConfigError
from region_features.records.detector_config import DetectorConfig
from tests.samples.detectron2_models import photo


@pytest.mark.parametrize(
    "size", [(480, 640), (640, 480), (333, 500), (50, 2000), (3000, 40), (800, 800), (7, 7), (801, 33)]
)
def test_resized_pixels_equal_detectron2s(size: tuple[int, int]) -> None:
    image = photo(1, *size)
    expected = ResizeShortestEdge([80, 80], 133).get_transform(image).apply_image(image)
    prepared = prepare("a", image, InputSettings(80, 133, "BGR"))
    np.testing.assert_array_equal(prepared.pixels, expected.astype(np.float32))
    assert (prepared.height, prepared.width) == size
    np.testing.assert_array_equal(prepare("a", image, InputSettings(80, 133, "RGB")).pixels, expected[:, :, ::-1])


def test_a_short_side_of_0_leaves_images_unscaled() -> None:
    image = photo(1, 33, 45)
    np.testing.assert_array_equal(prepare("a", image, InputSettings(0, 10, "BGR")).pixels, image)
    assert resized_size(1, 3000, InputSettings(80, 133, "BGR"))[0] == 0


def test_settings_that_a_config_lacks_are_detectron2s_defaults() -> None:
    cfg = get_cfg()
    expected = InputSettings(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.FORMAT)
    assert input_settings(DetectorConfig("c.yaml", {})) == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"FORMAT": "YUV-BT.601"}, "INPUT.FORMAT: expected BGR or RGB, got 'YUV-BT.601'"),
        ({"MIN_SIZE_TEST": -1}, "INPUT.MIN_SIZE_TEST: expected a whole number of at least 0, got -1"),
        ({"MIN_SIZE_TEST": [800]}, "got \\[800\\]"),
        ({"MAX_SIZE_TEST": 0}, "INPUT.MAX_SIZE_TEST: expected a whole number of at least 1, got 0"),
    ],
)
def test_unusable_input_settings_are_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"^c.yaml, .*{words}"):
        input_settings(DetectorConfig("c.yaml", {"INPUT": values}))


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 4), (0, 5, 3)])
def test_pixels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected uint8 pixels"):
        prepare("a", np.zeros(shape, np.uint8), InputSettings(80, 133, "BGR"))
