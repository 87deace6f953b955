"""Mean subtraction and resizing against plain numpy."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from region_features.detector.preprocess import PIXEL_MEANS, prepare, resize_scale

SIZES = [(375, 500), (640, 407), (37, 900), (900, 37), (20, 20), (1500, 2000), (600, 600)]


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def bilinear(image: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Sample at (i + 0.5) / scale - 0.5, a position that OpenCV keeps in float32; repeat the ends."""
    for axis in (0, 1):
        length = image.shape[axis]
        where = ((np.arange(round(length * scale)) + 0.5) * (1 / scale) - 0.5).astype(np.float32)
        low = np.floor(where).astype(int)
        share = (where - low.astype(np.float32)).astype(np.float64).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        first, second = (image.take(index.clip(0, length - 1), axis=axis) for index in (low, low + 1))
        image = first * (1 - share) + second * share
    return image


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_prepared_pixels_equal_plain_numpys(height: int, width: int) -> None:
    image = picture(height, width)
    prepared = prepare("x", image)
    expected = bilinear(image - np.array(PIXEL_MEANS), prepared.scale)
    assert prepared.pixels.dtype == np.float32
    assert (prepared.img_id, prepared.height, prepared.width) == ("x", height, width)
    np.testing.assert_allclose(prepared.pixels, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(375, 500, 1.6), (500, 375, 1.6), (37, 900, 1000 / 900), (3000, 4000, 0.2), (5, 2000, 0.5), (600, 1000, 1.0)],
)
def test_the_scale_is_bound_by_both_sides(height: int, width: int, scale: float) -> None:
    assert resize_scale(height, width) == scale


def test_unscaled_pixels_are_subtracted_in_double_and_rounded() -> None:
    image = picture(600, 600)
    expected = (image - np.array(PIXEL_MEANS)).astype(np.float32)
    np.testing.assert_array_equal(prepare("x", image).pixels, expected)


def test_every_thread_gives_the_same_pixels() -> None:
    image = picture(375, 500)
    results: list[NDArray[np.float32]] = []
    threads = [threading.Thread(target=lambda: results.append(prepare("x", image).pixels)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for pixels in results:
        np.testing.assert_array_equal(pixels, prepare("x", image).pixels)


def test_a_view_with_strides_equals_its_copy() -> None:
    image = picture(100, 120)
    np.testing.assert_array_equal(prepare("x", image[:, ::-1]).pixels, prepare("x", image[:, ::-1].copy()).pixels)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((4, 4, 4), dtype=np.uint8),
        np.zeros((4, 4, 3), dtype=np.uint16),
        np.zeros((0, 4, 3), dtype=np.uint8),
    ],
)
def test_an_array_that_is_no_image_is_refused_with_the_images_name(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="image grey: expected uint8 pixels of shape"):
        prepare("grey", image)


def test_preprocessing_imports_neither_torch_nor_detectron2() -> None:
    code = (
        "import sys; from region_features.detector.preprocess import prepare; import region_features.detector.errors; "
        "assert not {'torch', 'detectron2', 'tensorflow', 'apache_beam'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])
