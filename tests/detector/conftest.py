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

from region_features.detector import DetectionError, Detector
from region_features.detector.preprocess import prepare
from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord
from region_features.records.settings import SelectionRule
from tests.conftest import ROOT, TINY_WEIGHTS, recording

TESTS = ROOT / "tests"
COMMITTED = TESTS / "detector" / "goldens"
# The two programs add the same float32 terms in another order. On the machines seen so far that moves a box corner by
# at most 0.003 pixels (in an image reduced to a fifth) and a feature (at most 8) or probability by at most 1.1e-5.
BOX_TOLERANCE = 0.02  # pixels
TOLERANCE = 5e-5


@dataclass(frozen=True, eq=False)
class Golden:
    """An image and the arrays that the original program recorded for it."""

    image: PreparedImage
    arrays: dict[str, NDArray[Any]]


def image_file(name: str) -> Path:
    """Find an image of the goldens; skip the test if it is a photograph that this machine lacks."""
    file_name = f"{name}.[jp][pn]g"
    return next(COMMITTED.glob(file_name), None) or recording(f"images/{file_name}")


def read(path: Path) -> PreparedImage:
    """Prepare an image file for the detector."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert pixels is not None, path
    return prepare(path.stem, pixels.astype(np.uint8, copy=False))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an npz file."""
    with np.load(path) as arrays:
        return dict(arrays)


def golden(name: str) -> Golden:
    """Read an image with its arrays; skip the test if it is a photograph that this machine lacks."""
    image = image_file(name)
    arrays = COMMITTED / f"{name}.npz" if image.parent == COMMITTED else recording(f"tiny/{name}.npz")
    return Golden(read(image), read_arrays(arrays))


def noise(seed: int, height: int, width: int) -> PreparedImage:
    """Make an image of random blocks of 16 pixels."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    return prepare(f"noise{seed}", blocks.repeat(16, axis=0).repeat(16, axis=1)[:height, :width])


def assert_identical(one: RegionRecord | DetectionError, two: RegionRecord | DetectionError) -> None:
    """Require two records whose arrays are equal bit for bit."""
    assert isinstance(one, RegionRecord) and isinstance(two, RegionRecord)
    for field in ARRAY_FIELDS:
        np.testing.assert_array_equal(getattr(one, field.name), getattr(two, field.name), err_msg=field.name)


@pytest.fixture(scope="session")
def detector() -> Detector:
    """Load the narrow network with 36 boxes and two threads."""
    torch.set_num_threads(2)
    return Detector.load(str(TINY_WEIGHTS), "cpu", SelectionRule())
