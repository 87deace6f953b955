"""The flags --boxes, --detector_config and --exif, and what they mean for the graph and the checks before a run."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.portability import common_urns

from beam_pipeline.flags.options import parse_args
from beam_pipeline.pipeline import build
from beam_pipeline.preflight.job import check
from beam_pipeline.usage import UsageError
from region_features.records.detector_config import DetectorConfig
from region_features.records.settings import SelectionRule
from tests.conftest import TINY_WEIGHTS, write_photo
from tests.samples.fakes import FakeHandler
from transforms.detection import check_weights, preprocessing

BASE = ("--images", "photos", "--weights", "w.caffemodel", "--output", "out")


def test_given_boxes_are_shuffled_with_the_ids_and_stay_out_of_the_graph(tmp_path: Path) -> None:
    write_photo(tmp_path / "photos" / "a.png", 1)
    (tmp_path / "b.jsonl").write_text(json.dumps({"img_id": "a", "boxes": [[1.2345, 2, 3, 4]]}))
    argv = ["--images", str(tmp_path / "photos"), "--boxes", str(tmp_path / "b.jsonl"), "--weights", str(TINY_WEIGHTS)]
    job = check(parse_args([*argv, "--output", str(tmp_path / "out")])[0])
    pipeline = beam.Pipeline()
    build(pipeline, job, FakeHandler())
    graph = pipeline.to_runner_api()
    shuffles = {
        transform.unique_name.split("/")[0]
        for transform in graph.components.transforms.values()
        if transform.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn
    }
    assert "ReadShardInputs" in shuffles and not shuffles & {"LoadImages", "DetectRegions", "WriteShards"}
    assert b"1.2345" not in graph.SerializeToString()


def test_the_flags_of_given_boxes_reach_the_config() -> None:
    config, rest = parse_args([*BASE, "--boxes", "b.jsonl", "--detector_config", "c.yaml", "--exif"])
    assert (config.given_boxes, config.detector_config, config.exif) == ("b.jsonl", "c.yaml", True)
    assert config.selection == SelectionRule() and rest == []
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


def test_without_a_config_images_are_prepared_for_bottom_up_attention() -> None:
    prepared = preprocessing(None)("a", np.zeros((300, 400, 3), np.uint8))
    assert prepared.pixels.shape == (600, 800, 3)
