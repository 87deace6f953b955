"""Other detectron2 R-CNNs give detectron2's own results as records: two configs of the model zoo at random weights."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data.transforms import ResizeShortestEdge
from numpy.typing import NDArray

from region_features.detector import DetectionError, Detectron2Detector, WeightsError
from region_features.detector.detectron2.detector import CLASS_NMS, build_detectron2_network, check_checkpoint
from region_features.detector.detectron2.preprocess import InputSettings, prepare
from region_features.detector.errors import ConfigError
from region_features.detector.network.selection import choose_regions
from region_features.detector.torch_private import cpu_has_bfloat16
from region_features.detector.weights.weights_file import read_checkpoint
from region_features.records.detector_config import DetectorConfig
from region_features.records.prepared_image import PreparedImage
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord
from region_features.records.settings import SelectionRule
from tests.conftest import NO_BFLOAT16
from tests.samples.detectron2_models import (
    CONFIGS,
    FEATURE_WIDTHS,
    SMALL_CONFIG,
    photo,
    random_state,
    read_config_file,
)

SELECTION = SelectionRule(5, 20, 0.014)
DETECTOR = "region_features.detector.detectron2.detector"


@pytest.fixture(scope="module", params=list(CONFIGS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def config(kind: str, tmp_path_factory: pytest.TempPathFactory) -> DetectorConfig:
    path = tmp_path_factory.mktemp("config") / f"{kind}.yaml"
    path.write_text(SMALL_CONFIG.format(base=CONFIGS[kind]))
    return read_config_file(path)


@pytest.fixture(scope="module")
def weights(config: DetectorConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save({"model": random_state(config), "iteration": 7}, path)
    return path


@pytest.fixture(scope="module")
def detector(config: DetectorConfig, weights: Path) -> Detectron2Detector:
    torch.set_num_threads(2)
    return Detectron2Detector.load(config, str(weights), "cpu", SELECTION)


def record_of(detector: Detectron2Detector, image: PreparedImage) -> RegionRecord:
    (record,) = detector.detect([image])
    assert isinstance(record, RegionRecord), record
    return record


def by_detectron2(detector: Detectron2Detector, image: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Run detectron2's own inference; return boxes, features and class probabilities of all proposals."""
    height, width = image.shape[:2]
    resized = ResizeShortestEdge([96, 96], 160).get_transform(image[:, :, ::-1]).apply_image(image[:, :, ::-1])
    pixels = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
    caught: dict[str, Any] = {}

    def proposals(_: object, __: object, output: Any) -> None:
        caught["boxes"] = output[0][0].proposal_boxes.tensor

    def predictions(_: object, inputs: Any, output: Any) -> None:
        caught["features"], caught["probs"] = inputs[0], torch.softmax(output[0], dim=1)

    network = detector.network
    hooks = [network.proposal_generator.register_forward_hook(proposals)]
    hooks.append(network.roi_heads.box_predictor.register_forward_hook(predictions))
    try:
        with torch.inference_mode():
            network.inference([{"image": pixels, "height": height, "width": width}])
    finally:
        for hook in hooks:
            hook.remove()
    arrays = {name: value.numpy() for name, value in caught.items()}
    arrays["boxes"] = arrays["boxes"] * np.array([width / resized.shape[1], height / resized.shape[0]] * 2, np.float32)
    return arrays


@pytest.mark.parametrize("size", [(90, 130), (200, 60)])
def test_a_record_holds_what_detectron2_computes(
    detector: Detectron2Detector, kind: str, size: tuple[int, int]
) -> None:
    image = photo(sum(size), *size)
    record = record_of(detector, prepare("a", image, InputSettings(96, 160, "RGB")))
    expected = by_detectron2(detector, image)
    probs = np.roll(expected["probs"], 1, axis=1)
    (rows,) = choose_regions(
        [torch.from_numpy(expected["boxes"])], [torch.from_numpy(probs[:, 1:])], CLASS_NMS, SELECTION
    )
    assert len(expected["boxes"]) > SELECTION.maximum >= len(rows) >= SELECTION.minimum
    np.testing.assert_allclose(record.boxes, expected["boxes"][rows], rtol=0, atol=1e-3)
    np.testing.assert_allclose(record.features, expected["features"][rows], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(record.cls_prob, probs[rows], rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(record.objects_id, expected["probs"][rows, :-1].argmax(axis=1))
    np.testing.assert_array_equal(record.objects_conf, record.cls_prob[:, 1:].max(axis=1))
    assert record.features.shape[1] == FEATURE_WIDTHS[kind] and record.cls_prob.shape[1] == 81
    assert (record.img_id, record.img_h, record.img_w) == ("a", *size)
    assert np.ptp(record.cls_prob[:, 1:], axis=0).max() > 0.01 and np.ptp(record.features, axis=0).max() > 0.1


def test_attributes_are_zeros_as_wide_as_bottom_up_attentions(detector: Detectron2Detector) -> None:
    record = record_of(detector, prepare("a", photo(1, 90, 130), InputSettings(96, 160, "RGB")))
    assert record.attrs.shape == (record.num_boxes, 401)
    assert not record.attrs.any() and not record.attrs_id.any() and not record.attrs_conf.any()


def test_the_networks_own_boxes_give_the_same_record(detector: Detectron2Detector) -> None:
    image = prepare("a", photo(2, 90, 131), InputSettings(96, 160, "RGB"))
    record = record_of(detector, image)
    boxes = np.concatenate([record.boxes[::-1], record.boxes[:1]])
    again = record_of(detector, replace(image, boxes=boxes))
    np.testing.assert_array_equal(again.boxes, boxes)
    np.testing.assert_allclose(again.features[:-1][::-1], record.features, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(again.objects_id[:-1][::-1], record.objects_id)
    np.testing.assert_array_equal(again.features[-1], again.features[-2])


def test_a_record_does_not_depend_on_its_batch_and_a_bad_image_fails_alone(detector: Detectron2Detector) -> None:
    settings = InputSettings(96, 160, "RGB")
    good = prepare("good", photo(3, 90, 130), settings)
    thread = prepare("thread", np.zeros((1, 3000, 3), np.uint8), settings)
    alone = record_of(detector, good)
    first, error, last = detector.detect([good, thread, good])
    assert isinstance(error, DetectionError) and "3000x1 pixels is too thin" in str(error)
    for again in (first, last):
        assert isinstance(again, RegionRecord)
        for field in ARRAY_FIELDS:
            np.testing.assert_array_equal(getattr(again, field.name), getattr(alone, field.name))


def test_a_pickle_and_a_torch_file_give_the_same_arrays(config: DetectorConfig, weights: Path, tmp_path: Path) -> None:
    arrays = read_checkpoint(weights)
    check_checkpoint(config, arrays, "model.pth")
    plain = {name: np.array(array) for name, array in list(arrays.items())[:40]}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": plain, "__author__": "x"}, protocol=2))
    unpickled = read_checkpoint(tmp_path / "model.pkl")
    assert list(unpickled) == list(plain)
    for name, array in unpickled.items():
        np.testing.assert_array_equal(array, arrays[name])


def without_scores(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: array for name, array in arrays.items() if "cls_score" not in name}


def with_more_classes(arrays: dict[str, Any]) -> dict[str, Any]:
    name = "roi_heads.box_predictor.cls_score.weight"
    return {**arrays, name: np.zeros((1231, arrays[name].shape[1]), np.float32)}


def with_whole_numbers(arrays: dict[str, Any]) -> dict[str, Any]:
    name = "roi_heads.box_predictor.cls_score.bias"
    return {**arrays, name: arrays[name].astype(np.int64)}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            without_scores,
            "2 of the [0-9]+ arrays of the config's network are missing, roi_heads.box_predictor.cls_score.weight",
        ),
        (
            with_more_classes,
            r"cls_score.weight: the config asks for floats of shape \(81, [0-9]+\), got float32 of \(1231, ",
        ),
        (with_whole_numbers, r"cls_score.bias: the config asks for floats of shape \(81,\), got int64"),
    ],
)
def test_weights_of_another_network_are_named(
    config: DetectorConfig, weights: Path, damage: Callable[[dict[str, Any]], dict[str, Any]], words: str
) -> None:
    with pytest.raises(WeightsError, match=f"^w.pth.*{words}"):
        check_checkpoint(config, damage(dict(read_checkpoint(weights))), "w.pth")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"\x0a\x05hello")
    with pytest.raises(WeightsError, match=r"w: expected a detectron2 checkpoint \(.pkl or .pth\)"):
        read_checkpoint(tmp_path / "w")

    class Evil:
        def __reduce__(self) -> tuple[Any, Sequence[str]]:
            return print, ("run",)

    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"model": {"a": Evil()}}))
    with pytest.raises(WeightsError, match="refused"):
        read_checkpoint(tmp_path / "evil.pkl")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"MODEL": {"NO_SUCH": 1}}, "NO_SUCH"),
        ({"MODEL": {"RESNETS": {"DEPTH": "deep"}}}, "Type mismatch"),
        ({"MODEL": {"RESNETS": {"DEPTH": 51}}}, "detectron2 cannot build this network"),
        ({"MODEL": {"BACKBONE": {"NAME": "none"}}}, "detectron2 cannot build this network"),
        ({"VERSION": 9}, "v9"),
    ],
)
def test_a_config_that_detectron2_cannot_build_is_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"^c.yaml: .*{words}"):
        build_detectron2_network(DetectorConfig("c.yaml", values), "meta")


def test_deformable_convolutions_need_a_compiled_detectron2(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"MODEL": {"RESNETS": {"DEFORM_ON_PER_STAGE": [False, False, True, False]}}}
    monkeypatch.setattr(f"{DETECTOR}.has_deformable_convolutions", lambda: False)
    with pytest.raises(ConfigError, match=r"^c.yaml: .*deformable convolutions.*; install an official build"):
        build_detectron2_network(DetectorConfig("c.yaml", values), "meta")
    monkeypatch.setattr(f"{DETECTOR}.has_deformable_convolutions", lambda: True)
    build_detectron2_network(DetectorConfig("c.yaml", values), "meta")


def test_numbers_that_are_not_finite_are_an_error(config: DetectorConfig, weights: Path) -> None:
    broken = Detectron2Detector.load(config, str(weights), "cpu", SELECTION)
    broken.network.roi_heads.box_predictor.cls_score.bias[7] = float("nan")
    (error,) = broken.detect([prepare("a", photo(1, 90, 130), InputSettings(96, 160, "RGB"))])
    assert isinstance(error, DetectionError) and "not finite" in str(error)


def test_heads_for_masks_and_keypoints_need_no_weights() -> None:
    panoptic = read_config_file("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml")
    names = build_detectron2_network(panoptic, "meta").state_dict()
    plain = build_detectron2_network(read_config_file(CONFIGS["fpn"]), "meta").state_dict()
    assert set(names) == set(plain)


@pytest.mark.skipif(not cpu_has_bfloat16(), reason=NO_BFLOAT16)
def test_bfloat16_keeps_float32s_boxes_and_nearly_its_features(detector: Detectron2Detector) -> None:
    image = prepare("a", photo(1, 90, 130), InputSettings(96, 160, "RGB"))
    rough = Detectron2Detector(detector.network, torch.device("cpu"), SelectionRule(300, 300), "bfloat16")
    exact = Detectron2Detector(detector.network, torch.device("cpu"), SelectionRule(300, 300))
    expected, rounded = record_of(exact, image), record_of(rough, image)
    same = (expected.boxes[:, None] == rounded.boxes[None]).all(axis=2)
    assert same.any(axis=1).all() and rounded.features.dtype == np.float32
    difference = np.abs(rounded.features[same.argmax(axis=1)] - expected.features).mean()
    assert 0 < difference < 0.05 * np.abs(expected.features).mean()
