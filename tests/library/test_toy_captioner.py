"""parse_example returns the items of RegionFeatures, and docs/toy_captioner.py trains with every reader."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import tensorflow as tf

from beam_pipeline.pipeline import main as run_pipeline
from region_features import RegionFeatures, parse_example
from region_features.formats.example import encode_example
from region_features.formats.tfrecord import write_record
from tests.conftest import ROOT, TINY_WEIGHTS
from tests.samples.fakes import FakeHandler, fake_prepare
from tests.samples.records import make_example, make_record

VOLTA = Path("resnet101_faster_rcnn_genome_imgfeats") / "volta"


def test_parse_example_returns_the_items_of_region_features(tmp_path: Path) -> None:
    records = [make_record("a_1"), make_record("a_2", boxes=0), make_record("a_3", boxes=5)]
    path = tmp_path / "a.tfrecord"
    with path.open("wb") as stream:
        for record, captions in zip(records, (("Ein Hund läuft. ", "b"), (), ("c",)), strict=True):
            write_record(stream, encode_example(make_example(record, captions)))
    features = RegionFeatures(path)
    parsed_items = list(tf.data.TFRecordDataset([str(path)]).map(parse_example).as_numpy_iterator())
    assert len(parsed_items) == len(features) == 3
    for parsed, item in zip(parsed_items, features, strict=True):
        assert parsed.keys() == item.keys()
        for name, value in item.items():
            if isinstance(value, np.ndarray):
                assert parsed[name].dtype == value.dtype and parsed[name].shape == value.shape, name
                assert parsed[name].tobytes() == value.tobytes()
            elif isinstance(value, list):
                assert [text.decode() for text in parsed[name]] == value
            else:
                assert (parsed[name].decode() if isinstance(value, str) else parsed[name]) == value


def toy_captioner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("toy_captioner", ROOT / "docs" / "toy_captioner.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_toy_captioner_trains_with_every_reader(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    argv = ["--corpus", str(corpus), "--weights", str(TINY_WEIGHTS), "--output", str(out), "--num_shards", "2"]
    assert run_pipeline(argv, FakeHandler(), fake_prepare) == 0
    flags = ["--steps", "3", "--batch_size", "4", "--workers", "0"]
    train = toy_captioner().main
    annotations = ["--annotations", str(out / "annotations" / "train_ann.jsonl")]
    for argv in (
        [str(out / "tfrecord")],
        [str(out / "tfrecord"), "--reader", "tf.data"],
        [str(out / VOLTA / "trainval_feat.lmdb"), *annotations],
    ):
        losses = train([*argv, *flags])
        assert len(losses) == 3 and np.isfinite(losses).all() and losses[-1] < losses[0]
