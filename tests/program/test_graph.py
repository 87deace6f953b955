"""The graph as every runner gets it: ids and captions are shuffled, pixels and features never."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2

from beam_pipeline.flags.options import parse_args
from beam_pipeline.pipeline import build
from beam_pipeline.preflight.job import check
from tests.conftest import TINY_WEIGHTS
from tests.samples.pinned import pin
from transforms.detection import RegionModelHandler

PIXELS = ("LoadImages", "DetectRegions", "WriteShards")


def graph_of(corpus: Path, out: Path, images: int) -> beam_runner_api_pb2.Pipeline:
    argv = ["--corpus", str(corpus), "--output", str(out), "--weights", str(TINY_WEIGHTS), "--num_shards", "1"]
    job = check(parse_args(argv)[0])
    assert job.plan.num_images == images
    pipeline = beam.Pipeline()
    build(pipeline, job, RegionModelHandler(pin(TINY_WEIGHTS), "cpu", job.config.selection))
    return pipeline.to_runner_api()


@pytest.fixture
def graph(corpus: Path, tmp_path: Path) -> beam_runner_api_pb2.Pipeline:
    return graph_of(corpus, tmp_path / "out", 15)


def test_only_names_of_shards_and_small_results_are_shuffled(graph: beam_runner_api_pb2.Pipeline) -> None:
    shuffles = {
        transform.unique_name
        for transform in graph.components.transforms.values()
        if transform.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn
    }
    families = {name.split("/")[0] for name in shuffles}
    assert families == {"ReadShardInputs", "BuildExports"}
    assert not families & set(PIXELS)


def test_pixels_go_straight_from_reader_to_network_to_writer(graph: beam_runner_api_pb2.Pipeline) -> None:
    transforms = graph.components.transforms.values()
    steps = [step for step in transforms if not step.subtransforms and step.unique_name.startswith(PIXELS)]
    assert {step.spec.urn for step in steps} == {common_urns.primitives.PAR_DO.urn}
    makers = {output: step.unique_name for step in steps for output in step.outputs.values()}
    sources = {step.unique_name: [makers.get(source) for source in step.inputs.values()] for step in steps}
    writer = next(name for name in sources if name.startswith("WriteShards"))
    network = sources[writer][0]
    assert network is not None and network.startswith("DetectRegions")
    reader = sources[network][0]
    assert reader is not None and reader.startswith("LoadImages")


def test_the_graph_does_not_grow_with_the_images(
    graph: beam_runner_api_pb2.Pipeline, corpus: Path, tmp_path: Path
) -> None:
    # Dataflow refuses jobs over 10 MB: images are named in the plan file, never in the graph.
    for number in range(1000, 1400):
        (corpus / "images" / "val2014" / f"COCO_val2014_{number:012d}.jpg").touch()
    larger = graph_of(corpus, tmp_path / "out", 415)
    assert abs(larger.ByteSize() - graph.ByteSize()) < 500
