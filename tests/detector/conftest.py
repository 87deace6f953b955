"""Weights, goldens and a loaded detector for the tests of this folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from region_features.detector import Detector
from region_features.detector.preprocess import prepare
from region_features.records.prepared_image import PreparedImage
from region_features.records.settings import SelectionRule

TESTS = Path(__file__).resolve().parents[1]
TINY = TESTS / "data" / "tiny.caffemodel"
COMMITTED = TESTS / "detector" / "goldens"
SHARED = TESTS.parents[1] / "shared" / "golden"


@dataclass(frozen=True, eq=False)
class Golden:
    """An image and what the original program gave for it."""

    image: PreparedImage
    arrays: dict[str, NDArray[Any]]


def read(path: Path) -> PreparedImage:
    """An image file as the detector takes it."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert pixels is not None, path
    return prepare(path.stem, pixels.astype(np.uint8, copy=False))


def shared_image(name: str) -> Path:
    """An image of the shared goldens; skips the test where they are not beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("the shared goldens are not beside the repository")
    return next((SHARED / "images").glob(f"{name}.*"))


def golden(name: str) -> Golden:
    """A committed golden, or a shared one."""
    if (COMMITTED / f"{name}.npz").exists():
        image, arrays = COMMITTED / f"{name}.png", COMMITTED / f"{name}.npz"
    else:
        image, arrays = shared_image(name), SHARED / "tiny" / f"{name}.npz"
    with np.load(arrays) as found:
        return Golden(read(image), {key: found[key] for key in found})


@pytest.fixture(scope="session")
def detector() -> Detector:
    """The narrow network, 36 boxes, two threads."""
    torch.set_num_threads(2)
    return Detector.load(str(TINY), "cpu", SelectionRule())
