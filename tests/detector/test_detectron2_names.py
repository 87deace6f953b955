"""Names of a detectron2 network's classes come from the catalog of its training set, where that has them."""

from __future__ import annotations

import sys

import pytest

from region_features.detector.detectron2.metadata import object_names
from region_features.records.detector_config import DetectorConfig


def config(**values: object) -> DetectorConfig:
    return DetectorConfig("c.yaml", {"VERSION": 2, **values})


def test_a_network_trained_on_coco_has_its_80_names() -> None:
    # As YAML reads it: detectron2 itself makes a tuple of the text.
    names = object_names(config(DATASETS={"TRAIN": '("coco_2017_train",)'}))
    assert names is not None and len(names) == 80
    assert (names[0], names[79]) == ("person", "toothbrush")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"DATASETS": {"TRAIN": ["nobody_knows_it"]}},
        {"DATASETS": {"TRAIN": ["coco_2017_train"]}, "MODEL": {"ROI_HEADS": {"NUM_CLASSES": 5}}},
    ],
)
def test_an_unknown_data_set_or_another_number_of_classes_has_none(values: dict[str, object]) -> None:
    assert object_names(config(**values)) is None


def test_a_laptop_without_detectron2_knows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "detectron2", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert object_names(config(DATASETS={"TRAIN": ["coco_2017_train"]})) is None
