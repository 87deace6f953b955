"""The flags: ours, Beam's, and what is neither."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from typing import Any

import pytest

from beam_pipeline.flags.config import GROUPS, Config
from beam_pipeline.flags.options import build_parser, flag_name, flags_table, parse_args
from beam_pipeline.usage import Parser, UsageError
from region_features.records.settings import SelectionRule
from tests.conftest import ROOT
from transforms.beam_private import add_beam_flags

BASE = ("--images", "photos", "--weights", "w.caffemodel", "--output", "out")
REMOTE = ("--images", "gs://b/photos", "--weights", "gs://b/w.caffemodel", "--output", "gs://b/out")
FLAGS = tuple(flag_name(option) for option in dataclasses.fields(Config))
HEAVY = ("torch", "torchvision", "tensorflow", "detectron2", "cv2", "lmdb", "PIL", "simplejpeg")


def usage_error(*argv: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_args(argv)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def test_defaults_of_the_flags() -> None:
    config, beam_flags = parse_args(BASE)
    assert beam_flags == []
    assert config == Config(images=("photos",), weights="w.caffemodel", output="out")
    assert config.selection == SelectionRule(36, 36, 0.2)
    assert (config.device, config.precision, config.lmdb_form, config.tsv_columns) == ("auto", "float32", "volta", 13)
    assert (config.failure_threshold, config.pixel_limit, config.negatives_pool) == (0.01, 89_000_000, 100)
    assert not (config.exif or config.retry_failed or config.overwrite or config.imports) and config.detects
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.output = "elsewhere"  # type: ignore[misc]


def test_values_of_flags_are_converted_for_the_config() -> None:
    places = ["--corpus", "coco", "--captions", "c.json", "--test1k_ids", "ids.txt", "--weights", "w"]
    counts = ["--num_shards", "8", "--batch_size", "4", "--pixel_limit", "5", "--min_boxes", "10", "--max_boxes=100"]
    shares = ["--conf_threshold", "0", "--failure_threshold", "1"]
    wishes = ["--outputs", "lmdb,tfrecord", "--device", "cpu", "--retry_failed", "--overwrite"]
    config, beam_flags = parse_args([*places, "--output", "gs://b/out", *counts, *shares, *wishes])
    assert beam_flags == []
    assert config == Config(
        corpus="coco",
        captions="c.json",
        test1k_ids="ids.txt",
        weights="w",
        output="gs://b/out",
        outputs=("tfrecord", "lmdb"),
        min_boxes=10,
        max_boxes=100,
        conf_threshold=0.0,
        num_shards=8,
        batch_size=4,
        device="cpu",
        failure_threshold=1.0,
        pixel_limit=5,
        retry_failed=True,
        overwrite=True,
    )
    assert config.selection == SelectionRule(10, 100, 0.0)


@pytest.mark.parametrize("option", dataclasses.fields(Config), ids=lambda option: option.name)
def test_every_flag_sets_its_field_of_the_config_and_has_a_help(option: dataclasses.Field[Any]) -> None:
    assert option.metadata["help"] and option.metadata["group"] in GROUPS
    others = [choice for choice in option.metadata["options"].get("choices", ()) if choice != option.default]
    text = str(others[0]) if others else "lmdb" if option.name == "outputs" else "1"
    given = [flag_name(option)] if option.default is False else [f"{flag_name(option)}={text}"]
    namespace = build_parser().parse_args(given)
    assert getattr(namespace, option.name) != option.default


def test_help_has_a_line_for_every_flag_and_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "beam_pipeline", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    shown = " ".join(done.stdout.split())
    for option in dataclasses.fields(Config):
        assert " ".join(option.metadata["help"].replace("`", "").split()) in shown
    assert all(f"\n{group}:\n" in done.stdout for group in GROUPS)
    assert all(command in shown for command in (".verify", ".inspect", ".weights", ".download", ".rebuild", ".fetch"))
    assert set(FLAGS) <= {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  -")}
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "apache_beam" in imported  # the list is really there
    assert not imported & set(HEAVY)
    assert all(line.startswith("import time:") for line in done.stderr.splitlines())


def test_no_flag_of_ours_is_also_beams() -> None:
    parser = Parser(add_help=False, conflict_handler="resolve")
    add_beam_flags(parser)
    assert len(parser.flags) > 100
    # Beam's own --dry_run serves the tests of its runners alone.
    assert set(FLAGS) & set(parser.flags) == {"--dry_run"}


def test_the_page_of_flags_is_what_the_flags_say() -> None:
    page = (ROOT / "docs" / "flags.md").read_text()
    assert flags_table() in page, "run `make docs`: docs/flags.md is generated from beam_pipeline/flags/config.py"


@pytest.mark.parametrize(
    "flags",
    [
        ["--runner", "DataflowRunner"],
        ["--runner=FlinkRunner", "--flink_master=host:8081", "--environment_type=DOCKER"],
        ["--project", "p", "--region", "europe-west1", "--temp_location", "gs://b/tmp", "--staging_location=gs://b/s"],
        ["--direct_num_workers", "2", "--direct_running_mode=multi_processing"],
        ["--experiments=a", "--experiments", "b"],
        ["--dataflow_service_options=enable_google_cloud_profiler"],
        ["--sdk_container_image=image", "--sdk_location=container", "--machine_type=n1-standard-8"],
        ["--disk_size_gb=200", "--max_num_workers", "4", "--no_use_public_ips", "--job_name", "my-job"],
        ["--setup_file", "./setup.py", "--streaming", "--save_main_session"],
    ],
)
def test_beams_own_flags_pass_through(flags: list[str]) -> None:
    for argv in ([*flags, *REMOTE], [*REMOTE, *flags], [*REMOTE[:2], *flags, *REMOTE[2:]]):
        config, beam_flags = parse_args(argv)
        assert beam_flags == flags
        assert config == parse_args(REMOTE)[0]


@pytest.mark.parametrize(
    ("flag", "nearest"),
    [
        ("--outpt", "--output"),
        ("--image", "--images"),
        ("--weight=w", "--weights"),
        ("--batchsize", "--batch_size"),
        ("--num-shards", "--num_shards"),
        ("--retry-failed", "--retry_failed"),
        ("--runer=DirectRunner", "--runner"),
        ("--direct_num_worker=2", "--direct_num_workers"),
        ("--flink_mastr", "--flink_master"),
        ("--conf_thresh", "--conf_threshold"),
        ("--Output", "--output"),
    ],
)
def test_an_unknown_flag_names_the_nearest_known_one(flag: str, nearest: str) -> None:
    name = flag.partition("=")[0]
    assert usage_error(*BASE, flag) == f"unknown flag {name}; did you mean {nearest}?"
    assert usage_error(*BASE, *(flag.split("=") if "=" in flag else (flag, "3"))).startswith(f"unknown flag {name};")


def test_a_misspelt_output_is_named_before_it_is_missed() -> None:
    assert usage_error(*BASE[:4], "--outptu", "out") == "unknown flag --outptu; did you mean --output?"
    assert usage_error(*BASE[:4]).startswith("--output DIR is missing")


def test_an_unknown_flag_without_a_near_name_points_to_the_help() -> None:
    assert usage_error(*BASE, "--zzqqxx") == "unknown flag --zzqqxx; see --help"


def test_a_word_that_belongs_to_no_flag_is_refused_with_a_remedy() -> None:
    message = usage_error(*BASE, "photos/b.jpg")
    assert message.startswith("expected a flag, got 'photos/b.jpg'") and "after one --images" in message


@pytest.mark.parametrize("flag", ["--min_boxes", "--max_boxes", "--num_shards", "--batch_size", "--pixel_limit"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1e3", "nan", "inf", "", "x", " "])
def test_a_count_that_is_not_whole_or_below_1_is_refused(flag: str, value: str) -> None:
    message = usage_error(*BASE, f"{flag}={value}")
    assert message == f"{flag}: expected a whole number of at least 1, got {value!r}"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-0.1", "1.0001", "1%", "", "x"])
def test_a_failure_threshold_outside_0_to_1_is_refused(value: str) -> None:
    message = usage_error(*BASE, f"--failure_threshold={value}")
    assert message == f"--failure_threshold: expected a share between 0 and 1, got {value!r}"


@pytest.mark.parametrize("value", ["nan", "inf", "-0.1", "1.0001"])
def test_a_confidence_outside_0_to_1_is_refused(value: str) -> None:
    assert "--conf_threshold: expected a share between 0 and 1, got" in usage_error(*BASE, f"--conf_threshold={value}")


@pytest.mark.parametrize("value", ["x", "", "20%"])
def test_a_confidence_that_is_not_a_number_is_refused(value: str) -> None:
    assert usage_error(*BASE, f"--conf_threshold={value}").startswith(
        "--conf_threshold: expected a share between 0 and 1, got "
    )


def test_min_boxes_above_max_boxes_is_refused() -> None:
    assert "expected 1 <= min_boxes <= max_boxes, got 40 and 36" in usage_error(*BASE, "--min_boxes", "40")
    assert "got 36 and 10" in usage_error(*BASE, "--max_boxes", "10")


PATHS = ["--corpus", "--images", "--captions", "--test1k_ids", "--weights", "--output", "--boxes", "--detector_config"]


@pytest.mark.parametrize("flag", PATHS)
def test_an_empty_path_is_an_error(flag: str) -> None:
    assert usage_error(*BASE, f"{flag}=") == (
        f"{flag}: expected a path, got nothing; is a variable of your shell unset?"
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "--output DIR is missing"),
        (("--output", "o"), "expected --corpus DIR or --images"),
        (("--output", "o", "--images", "p"), "--weights FILE is missing"),
        (("--output", "o", "--images"), "--images: expected a value after it, got none"),
        ((*BASE, "--corpus", "c"), "--import, got --corpus and --images"),
        (("verify", "out"), "got 'verify'; did you mean python -m beam_pipeline.verify?"),
        (("--output", "o", "--outputs", "lmdb", "--recursive"), "--recursive: expected --images beside it"),
        ((*BASE, "--device", "gpu"), "--device: expected one of auto, cpu, cuda, got 'gpu'; did you mean cpu?"),
        ((*BASE, "--device"), "--device: expected a value after it, got none"),
        ((*BASE, "--outputs", "tfrecords"), "got 'tfrecords'; did you mean tfrecord?"),
        ((*BASE, "--outputs", "tfrecord,csv"), "got 'csv'; did you mean"),
        ((*BASE, "--outputs", ""), "got nothing"),
        ((*BASE, "--outputs", " , "), "got nothing"),
        ((*BASE, "--direct_num_workers", "x"), "--direct_num_workers: expected a whole number, got 'x'"),
        ((*BASE, "--project"), "--project: expected a value after it, got none"),
        ((*BASE, "--retry_failed=yes"), "--retry_failed: expected no value, got 'yes'; leave the value out"),
    ],
)
def test_wrong_flags_are_refused_in_one_line(argv: tuple[str, ...], words: str) -> None:
    assert words in usage_error(*argv)


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        ("tfrecord,captions,lmdb", ("tfrecord", "captions", "lmdb")),
        ("lmdb, captions", ("captions", "lmdb")),
        ("lmdb,,lmdb,", ("lmdb",)),
    ],
)
def test_outputs_are_a_list_in_any_order(text: str, outputs: tuple[str, ...]) -> None:
    assert parse_args([*BASE, "--outputs", text])[0].outputs == outputs


def test_without_detection_neither_images_nor_weights_are_needed() -> None:
    config, _ = parse_args(["--output", "o", "--outputs", "lmdb"])
    assert (config.corpus, config.images, config.weights, config.outputs) == (None, (), None, ("lmdb",))
    config, _ = parse_args(["--output", "o", "--outputs", "captions", "--captions", "c.json"])
    assert config.captions == "c.json"


def test_images_takes_several_paths_with_odd_names() -> None:
    names = ("a b.jpg", "*.jpg", "photos/[1]", "50%.jpg", "käse.txt", "gs://b/x y/*.jpg")
    config, beam_flags = parse_args(["--images", *names, "--output", "o", "--weights", "w", "--runner", "r"])
    assert config.images == names and beam_flags == ["--runner", "r"]


def test_a_usage_error_is_a_value_error_and_never_an_exit() -> None:
    assert issubclass(UsageError, ValueError)
    with pytest.raises(UsageError):
        build_parser().error("x")
    with pytest.raises(SystemExit) as caught:
        parse_args(["--help"])
    assert caught.value.code in (0, None)
