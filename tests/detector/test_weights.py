"""The original's weights are read; damaged files and wrong layers are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.full_size_weights import write_caffemodel
from region_features.detector import WeightsError
from region_features.detector.architecture import Architecture, Stage
from region_features.detector.weights.caffe_weights import read_caffe_weights
from region_features.detector.weights.caffemodel import Blobs, NetParameter, read_caffemodel
from tests.conftest import TINY_WEIGHTS
from tests.samples.weight_files import write_caffemodel_v1


def rewritten(path: Path, change: Callable[[dict[str, Blobs]], None]) -> Path:
    layers = read_caffemodel(TINY_WEIGHTS)
    change(layers)
    write_caffemodel(path, {name: ("", blobs) for name, blobs in layers.items()})
    return path


def test_depth_and_widths_are_read_off_the_blobs() -> None:
    assert read_caffe_weights(TINY_WEIGHTS).architecture == Architecture(
        stem=16,
        stages=(Stage(1, 8, 32), Stage(1, 12, 48), Stage(2, 16, 64), Stage(2, 24, 64)),
        rpn=32,
        classes=1600,
        attributes=400,
        embedding=16,
        attribute_hidden=32,
    )


def test_stored_statistics_are_divided_by_their_factor(tmp_path: Path) -> None:
    def zero_one_factor(layers: dict[str, Blobs]) -> None:
        mean, variance, factor = layers["bn2a_branch1"]
        layers["bn2a_branch1"] = (mean, variance, factor * 0)

    mean, _variance, factor = read_caffemodel(TINY_WEIGHTS)["bn_conv1"]
    state = read_caffe_weights(rewritten(tmp_path / "zero.caffemodel", zero_one_factor)).state
    assert factor[0] > 2
    np.testing.assert_allclose(state["backbone.stem.conv1.norm.running_mean"], mean / factor, rtol=1e-6)
    assert not state["backbone.res2.0.shortcut.norm.running_var"].any()


def test_layers_that_the_network_does_not_need_are_ignored(tmp_path: Path) -> None:
    def add_and_drop(layers: dict[str, Blobs]) -> None:
        layers["loss_weights"] = (np.ones(3, dtype=np.float32),)
        del layers["bbox_pred"]

    state = read_caffe_weights(rewritten(tmp_path / "extra.caffemodel", add_and_drop)).state
    assert state.keys() == read_caffe_weights(TINY_WEIGHTS).state.keys()


def test_the_v1_layer_field_and_shapes_of_four_dimensions_give_the_same_weights(tmp_path: Path) -> None:
    write_caffemodel_v1(tmp_path / "old.caffemodel")
    old, new = read_caffe_weights(tmp_path / "old.caffemodel"), read_caffe_weights(TINY_WEIGHTS)
    assert old.architecture == new.architecture
    for name, array in new.state.items():
        np.testing.assert_array_equal(old.state[name], array, err_msg=name)


def without(layer: str) -> Callable[[dict[str, Blobs]], None]:
    def change(layers: dict[str, Blobs]) -> None:
        del layers[layer]

    return change


def with_blob(layer: str, index: int, blob: np.ndarray) -> Callable[[dict[str, Blobs]], None]:
    def change(layers: dict[str, Blobs]) -> None:
        blobs = list(layers[layer])
        blobs[index] = blob.astype(np.float32)
        layers[layer] = tuple(blobs)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("rpn_cls_score"), "layer rpn_cls_score is missing"),
        (without("res4b1_branch2b"), "layer res4b1_branch2b is missing"),
        (without("res5a_branch2a"), "layer res5a_branch2a is missing"),
        (without("scale3a_branch1"), "layer scale3a_branch1 is missing"),
        (without("attr_score"), "layer attr_score is missing"),
        (with_blob("fc_attr", 0, np.zeros((32, 79))), r"layer fc_attr, blob 0: expected shape \(32, 80\)"),
        (with_blob("conv1", 0, np.zeros((16, 1, 7, 7))), r"layer conv1, blob 0: expected shape \(16, 3, 7, 7\)"),
        (with_blob("res2a_branch2b", 0, np.zeros(8)), r"layer res2a_branch2b, blob 0: expected shape \(8, 8, 3, 3\)"),
        (with_blob("cls_score", 0, np.zeros(0)), "layer cls_score"),
    ],
)
def test_a_missing_or_misshapen_layer_is_named(
    tmp_path: Path, change: Callable[[dict[str, Blobs]], None], message: str
) -> None:
    path = rewritten(tmp_path / "wrong.caffemodel", change)
    with pytest.raises(WeightsError, match=message) as raised:
        read_caffe_weights(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"name: 'ResNet'\nlayer { }\n", b"\x80\x02}q\x00X\x05\x00\x00\x00model", bytes(range(256)) * 40, b"\x08\x01"],
)
def test_a_file_that_is_no_caffe_model_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wrong.caffemodel"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="expected a Caffe model") as raised:
        read_caffe_weights(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.3, 0.7, 0.99, 0.999999])
def test_a_truncated_file_is_named(tmp_path: Path, share: float) -> None:
    path = tmp_path / "short.caffemodel"
    content = TINY_WEIGHTS.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match=r"short\.caffemodel"):
        read_caffe_weights(path)


@pytest.mark.parametrize("shape", [[16, 3, 7, 8], [-16, -3, 7, 7], [2**40, 2**40]])
def test_a_blob_whose_shape_contradicts_its_data_is_named(tmp_path: Path, shape: list[int]) -> None:
    net = NetParameter()
    layer = net.layer.add(name=b"conv1")
    layer.blobs.add(shape={"dim": shape}, data=[b"\0" * 4 * 16 * 3 * 49])
    path = tmp_path / "odd.caffemodel"
    path.write_bytes(net.SerializeToString())
    with pytest.raises(WeightsError, match="layer conv1, blob 0: expected"):
        read_caffe_weights(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_caffe_weights(tmp_path / "none.caffemodel")
