"""Weights that hold NaN, infinities or variances below zero are refused when they are read, from every format."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import full_size_weights
from region_features.detector import WeightsError
from region_features.detector.weights.caffemodel import Blobs, read_caffemodel
from region_features.detector.weights.weights_file import read_checkpoint, read_weights
from tests.conftest import TINY_WEIGHTS
from tests.samples.weight_files import HEAD, WRITERS, caffe_order, detectron2_order, save, tensors, write_pickle

CONVOLUTION = "backbone.res3.0.conv2.weight"
NOT_FINITE = "expected finite numbers, got 2 NaN and 1 infinite of 1296; copy the file again"
CHECKPOINTS = [kind for kind in WRITERS if not kind.startswith(("caffemodel", "safetensors"))]


def write_with(
    monkeypatch: pytest.MonkeyPatch, kind: str, path: Path, layer: str, index: int, change: Callable[[np.ndarray], None]
) -> None:
    """Write the narrow network in a format, one blob of its Caffe layers changed in place."""
    layers: dict[str, Blobs] = dict(read_caffemodel(TINY_WEIGHTS))
    blobs = [np.array(blob) for blob in layers[layer]]
    change(blobs[index])
    layers[layer] = tuple(blobs)
    monkeypatch.setattr("tests.samples.weight_files.read_caffemodel", lambda _: layers)
    if kind == "caffemodel":
        full_size_weights.write_caffemodel(path, {name: ("", blobs) for name, blobs in layers.items()})
    else:
        WRITERS[kind][1](path)


def set_not_finite(blob: np.ndarray) -> None:
    blob.flat[5:8] = np.nan, np.inf, np.nan


def set_negative(blob: np.ndarray) -> None:
    blob[3] = -0.5


@pytest.mark.parametrize("kind", WRITERS)
def test_a_convolution_that_is_not_finite_is_named_with_its_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "w"
    write_with(monkeypatch, kind, path, "res3a_branch2b", 0, set_not_finite)
    with pytest.raises(WeightsError) as raised:
        read_weights(path)
    assert str(raised.value).startswith(f"{path}, layer {CONVOLUTION}: {NOT_FINITE}")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_variance_below_zero_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = tmp_path / "w"
    write_with(monkeypatch, kind, path, "bn3a_branch2b", 1, set_negative)
    with pytest.raises(WeightsError) as raised:
        read_weights(path)
    layer = "backbone.res3.0.conv2.norm.running_var"
    assert str(raised.value).startswith(f"{path}, layer {layer}: expected variances of at least 0, got -0.")


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_for_detectron2_is_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = tmp_path / "w"
    for layer, index, change, words in (
        ("res3a_branch2b", 0, set_not_finite, NOT_FINITE),
        ("bn3a_branch2b", 1, set_negative, "expected variances of at least 0"),
    ):
        write_with(monkeypatch, kind, path, layer, index, change)
        with pytest.raises(WeightsError, match=words) as raised:
            read_checkpoint(path)
        assert str(raised.value).startswith(f"{path}, layer backbone.res3.0.conv2.")


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (np.nan, r"conv2\.norm\.running_mean: expected finite numbers, got 12 NaN"),
        (np.inf, r"layer bn3a_branch2b, blob 2: expected a finite factor, got inf"),
        (-1.0, r"conv2\.norm\.running_var: expected variances of at least 0"),
        (1e-45, r"conv2\.norm\.running_mean: expected finite numbers"),
    ],
)
def test_a_stored_factor_that_spoils_the_statistics_is_refused_without_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float, words: str
) -> None:
    def change(blob: np.ndarray) -> None:
        blob[0] = factor

    write_with(monkeypatch, "caffemodel", tmp_path / "w", "bn3a_branch2b", 2, change)
    with warnings.catch_warnings(), pytest.raises(WeightsError, match=words):
        warnings.simplefilter("error")
        read_weights(tmp_path / "w")


def test_a_double_beyond_float32_is_infinite(tmp_path: Path) -> None:
    arrays = detectron2_order()
    arrays[f"{HEAD}.cls_score.bias"] = arrays[f"{HEAD}.cls_score.bias"].astype(np.float64)
    arrays[f"{HEAD}.cls_score.bias"][7] = 1e300
    write_pickle(tmp_path / "w", arrays)
    with warnings.catch_warnings(), pytest.raises(WeightsError, match=r"cls_score\.bias: .* 0 NaN and 1 infinite"):
        warnings.simplefilter("error")
        read_weights(tmp_path / "w")


def test_an_array_that_the_network_does_not_need_may_hold_anything(tmp_path: Path) -> None:
    arrays = {**caffe_order(), "momentum": np.full(3, np.nan, np.float32), "iteration": np.array(7)}
    save(tensors(arrays), tmp_path / "w", zipped=True)
    assert "momentum" not in read_weights(tmp_path / "w").state
