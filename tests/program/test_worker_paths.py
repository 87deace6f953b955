"""Paths of a job whose workers run in other folders, or on other disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipeline.flags.options import parse_args
from beam_pipeline.flags.worker_paths import Workers, path_for, with_paths_for, workers_of
from beam_pipeline.preflight.job import check
from beam_pipeline.usage import UsageError
from tests.conftest import TINY_WEIGHTS
from tests.samples.images import photo

FLINK = ("--runner=FlinkRunner",)
ON_DOCKER = ("--runner=FlinkRunner", "--flink_master=host:8081", "--environment_type=DOCKER")


@pytest.mark.parametrize(
    ("flags", "workers"),
    [
        ((), Workers.HERE),
        (("--runner=DirectRunner", "--direct_running_mode=multi_processing"), Workers.HERE),
        (("--runner=NoSuchRunner",), Workers.HERE),
        (("--runner=PrismRunner",), Workers.SHARED),
        (FLINK, Workers.SHARED),
        (("--runner=SparkRunner",), Workers.SHARED),
        (("--runner=SparkRunner", "--spark_master_url=spark://h:7077"), Workers.CONTAINERS),
        ((*FLINK, "--flink_master=host:8081"), Workers.CONTAINERS),
        (ON_DOCKER, Workers.CONTAINERS),
        ((*FLINK, "--environment_type=EXTERNAL", "--environment_config=host:50000"), Workers.SHARED),
        (("--runner=PortableRunner", "--job_endpoint=h:1", "--environment_type=LOOPBACK"), Workers.SHARED),
        (("--runner=PortableRunner", "--job_endpoint=h:1"), Workers.CONTAINERS),
        (("--runner=DataflowRunner",), Workers.CONTAINERS),
    ],
)
def test_the_environment_says_where_workers_look(flags: tuple[str, ...], workers: Workers) -> None:
    assert workers_of(flags) is workers


def test_relative_paths_become_absolute_for_workers_in_other_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["--images", "photos/*.jpg", "./a.zip!/b.jpg", "/p", "gs://b/c", "--weights", "w", "--output", "../out"]
    argv += ["--captions", "c.json", "--boxes", "b.jsonl"]
    here, there = parse_args(argv)[0], parse_args([*argv, *FLINK])[0]
    assert here.images == tuple(argv[1:5])
    assert there.images == (f"{tmp_path}/photos/*.jpg", f"{tmp_path}/a.zip!/b.jpg", "/p", "gs://b/c")
    assert (there.weights, there.captions) == (f"{tmp_path}/w", f"{tmp_path}/c.json")
    assert there.output == f"{tmp_path}/../out"  # `..` may follow a link
    assert (there.given_boxes, there.reuse, there.corpus) == ("b.jsonl", None, None)
    address = "https://host/w.caffemodel#sha256=00"
    assert path_for(Workers.SHARED, address, "--weights") == address
    assert with_paths_for(Workers.SHARED, there) == there


def test_local_paths_are_refused_where_workers_have_disks_of_their_own() -> None:
    argv = ["--weights", "gs://b/w", *ON_DOCKER, "--images"]
    with pytest.raises(UsageError, match=r"--images photos: the workers, in containers, do not see this machine's"):
        parse_args([*argv, "photos", "--output", "gs://b/out"])
    with pytest.raises(UsageError, match=r"--output /out: .* would write it to disks of their own: expected a path on"):
        parse_args([*argv, "gs://b/photos", "--output", "/out"])
    for flag in ("--images", "--captions", "--reuse"):
        sources = ["--images=gs://b/photos", "--output=gs://b/out", "--weights=gs://b/w"]
        with pytest.raises(UsageError, match=f"{flag} /here: the workers, in containers, do not see this machine's"):
            parse_args([*ON_DOCKER, *sources, flag, "/here"])
    weights = ["--weights", "/in/the/image.caffemodel", "--images", "gs://b/photos", "--output", "gs://b/out"]
    assert parse_args([*ON_DOCKER, *weights])[0].weights == "/in/the/image.caffemodel"


def test_relative_lines_of_a_list_are_treated_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    photo().save(tmp_path / "photos" / "a.jpg")
    (tmp_path / "list.txt").write_text("photos/a.jpg\n")
    config = parse_args(["--images", "list.txt", "--weights", str(TINY_WEIGHTS), "--output", "out"])[0]
    uris = {
        workers: [ref.uri for ref in check(config, workers).inputs.catalog.refs()]
        for workers in (Workers.HERE, Workers.SHARED)
    }
    assert uris == {Workers.HERE: ["photos/a.jpg"], Workers.SHARED: [f"{tmp_path}/photos/a.jpg"]}
    with pytest.raises(UsageError, match=r"--images photos/a.jpg: the workers, in containers, do not see"):
        check(config, Workers.CONTAINERS)
