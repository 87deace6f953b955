"""Given boxes on their way to the detector: joined by id, checked against the image, carried with its pixels."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.portability import common_urns

from beam_pipeline.options import parse_args
from beam_pipeline.pipeline import build
from beam_pipeline.preflight import prepare
from beam_pipeline.usage import UsageError
from region_features.records.detector_config import DetectorConfig
from region_features.records.failure import ImageFailure
from region_features.records.given_boxes import GivenBoxes, no_boxes
from region_features.records.item import CaptionedImage
from region_features.records.plan import ImageRef, ShardKey
from region_features.records.prepared_image import PreparedImage
from region_features.records.settings import SelectionRule
from tests.conftest import TINY_WEIGHTS, write_photo
from tests.samples.fakes import FakeHandler, fake_prepare
from transforms.detection import check_weights, preprocessing
from transforms.images import load_item

BASE = ("--images", "photos", "--weights", "w.caffemodel", "--output", "out")
SHARD = ShardKey("photos", 0, 1, 3)


def line(img_id: str, *boxes: list[float]) -> str:
    return json.dumps({"img_id": img_id, "boxes": boxes}) + "\n"


def load(path: Path, boxes: GivenBoxes | None, exif: bool = False) -> PreparedImage | ImageFailure:
    image = CaptionedImage(ImageRef("photos", path.stem, str(path), 1), None, boxes)
    return load_item(SHARD, image, fake_prepare, 10**6, exif)[1]


def test_an_image_carries_its_given_boxes_or_why_they_are_refused(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", 1, (30, 40))
    good = GivenBoxes("a", np.array([[0, 0, 40, 30], [1, 1, 2, 2]], np.float32))
    found = load(tmp_path / "a.png", good)
    assert isinstance(found, PreparedImage) and found.boxes is not None
    np.testing.assert_array_equal(found.boxes, good.boxes)
    plain = load(tmp_path / "a.png", None)
    assert isinstance(plain, PreparedImage) and plain.boxes is None
    np.testing.assert_array_equal(plain.pixels, found.pixels)
    wide = load(tmp_path / "a.png", GivenBoxes("a", np.array([[0, 0, 41, 30]], np.float32)))
    none = load(tmp_path / "a.png", no_boxes("a"))
    missing = load(tmp_path / "b.png", no_boxes("b"))
    stages = [one.stage for one in (wide, none, missing) if isinstance(one, ImageFailure)]
    assert stages == ["boxes", "boxes", "read"]


def test_boxes_are_shuffled_with_the_ids_and_stay_out_of_the_graph(tmp_path: Path) -> None:
    write_photo(tmp_path / "photos" / "a.png", 1)
    (tmp_path / "b.jsonl").write_text(line("a", [1.2345, 2, 3, 4]))
    argv = ["--images", str(tmp_path / "photos"), "--boxes", str(tmp_path / "b.jsonl"), "--weights", str(TINY_WEIGHTS)]
    job = prepare(parse_args([*argv, "--output", str(tmp_path / "out")])[0])
    pipeline = beam.Pipeline()
    build(pipeline, job, FakeHandler())
    graph = pipeline.to_runner_api()
    shuffles = {
        transform.unique_name.split("/")[0]
        for transform in graph.components.transforms.values()
        if transform.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn
    }
    assert "JoinAnnotations" in shuffles and not shuffles & {"LoadImages", "DetectRegions", "WriteShards"}
    assert b"1.2345" not in graph.SerializeToString()


def test_the_flags_of_given_boxes_reach_the_config() -> None:
    config, rest = parse_args([*BASE, "--boxes", "b.jsonl", "--detector_config", "c.yaml", "--exif"])
    assert (config.given_boxes, config.detector_config, config.exif) == ("b.jsonl", "c.yaml", True)
    assert config.boxes == SelectionRule() and rest == []
    config, _ = parse_args(BASE)
    assert (config.given_boxes, config.detector_config, config.exif) == (None, None, False)


@pytest.mark.parametrize("flag", [("--min_boxes", "10"), ("--max_boxes", "100"), ("--conf_threshold", "0.5")])
def test_a_number_of_boxes_with_given_boxes_is_wrong_use(flag: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="--boxes: every box given is described: expected no --min_boxes"):
        parse_args([*BASE, "--boxes", "b.jsonl", *flag])


@pytest.mark.parametrize("flag", [("--boxes", "b.jsonl"), ("--detector_config", "c.yaml"), ("--exif",)])
def test_flags_of_the_detector_are_refused_with_imported_records(flag: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=f"^{flag[0]}: imported records are taken as they are"):
        parse_args(["--import_tsv", "a.tsv", "--output", "out", *flag])


def test_a_submitting_machine_checks_a_checkpoint_without_detectron2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "model.pkl"
    weights.write_bytes(pickle.dumps({"model": {"a": np.zeros(3, np.float32)}}, protocol=2))
    config = DetectorConfig("c.yaml", {})
    with pytest.raises(ValueError, match="arrays of the config's network are missing"):
        check_weights(str(weights), config)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    facts = check_weights(str(weights), config)
    assert (facts.format, facts.attributes) == ("detectron2-checkpoint", False)
    assert facts.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_preprocessing_without_a_config_is_bottom_up_attentions() -> None:
    prepared = preprocessing(None)("a", np.zeros((300, 400, 3), np.uint8))
    assert prepared.pixels.shape == (600, 800, 3)
