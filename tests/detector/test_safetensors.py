"""Weights as `.safetensors`: what `convert` writes, read by the package and by our reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from region_features.detector import WeightsError
from region_features.detector.weights.caffe_weights import read_caffe_weights
from region_features.detector.weights.safetensors_file import encode_weights
from region_features.detector.weights.state import Weights, state_shapes
from region_features.detector.weights.weights_file import read_weights
from tests.conftest import TINY_WEIGHTS


def write_weights(path: Path, weights: Weights, **metadata: str) -> None:
    path.write_bytes(b"".join(encode_weights(weights.state, metadata)))


def test_the_same_weights_give_the_same_bytes_which_the_package_reads(tmp_path: Path) -> None:
    from safetensors import safe_open

    weights = read_caffe_weights(TINY_WEIGHTS)
    metadata = {"source_sha256": "ab", "source_format": "caffemodel", "more": "é"}
    write_weights(tmp_path / "a", weights, **metadata)
    write_weights(tmp_path / "b", weights, **dict(reversed(metadata.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with safe_open(tmp_path / "a", framework="pt") as file:
        assert file.metadata() == {**metadata, "layout": "region-features-1"}
        assert {name: tuple(file.get_tensor(name).shape) for name in file.keys()} == state_shapes(  # noqa: SIM118
            weights.architecture
        )
    read_back = read_weights(tmp_path / "a")
    assert read_back.metadata["more"] == "é" and read_back.state.keys() == weights.state.keys()
    for name, array in weights.state.items():
        np.testing.assert_array_equal(read_back.state[name], array)


def test_a_later_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "later.safetensors"
    write_weights(path, read_caffe_weights(TINY_WEIGHTS))
    path.write_bytes(path.read_bytes().replace(b"region-features-1", b"region-features-2"))
    with pytest.raises(WeightsError, match="expected layout region-features-1, got region-features-2"):
        read_weights(path)
