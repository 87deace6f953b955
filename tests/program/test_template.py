"""The Flex Template: its parameters are the flags, and a launcher's command line is understood."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.dataflow.template import from_launcher, main, metadata
from beam_pipeline.flags.config import Config
from beam_pipeline.flags.options import flag_name, parse_args
from tests.conftest import ROOT

OPTIONS = dataclasses.fields(Config)
METADATA = ROOT / "deploy" / "template" / "metadata.json"
BASE = ("--images=gs://b/a", "--weights=gs://b/w", "--output=gs://b/o")
WITHOUT_PARAMETER = {"no_wait", "on_interrupt", "log_json"}
# A value that a user may give, and one that the pattern must refuse before a machine is started, for each metavar.
VALUES = {"N": ("12", "0"), "BYTES": ("1000", "-1"), "P": ("0.25", "2"), "DIR": ("gs://b/d", "/tmp/d")}
VALUES |= {"FILE": ("gs://b/f", "file.json"), "SOURCE": ("gs://b/a,gs://b/c/*.jpg", "photos")}
VALUES |= {"GPU": ("type:nvidia-l4;count:1;install-nvidia-driver:5xx", "type:nvidia-l4"), "PRICE": ("0.35", "free")}
OWN_VALUES = {
    "outputs": ("tfrecord,lmdb", "tfrecord,other"),
    "output": ("gs://b/o", "out"),
    "weights": ("https://h/w", "w.pth"),
    "images_per_second": ("41.5", "0"),
}
OWN_VALUES["detector_config"] = ("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml", "")


def values_of(option: dataclasses.Field[Any]) -> tuple[str, str]:
    """Return a value that is right for a flag, and one that is wrong or empty."""
    settings = option.metadata["options"]
    if option.default is False:
        return "true", "yes"
    if "choices" in settings:
        return str(settings["choices"][-1]), "other"
    return OWN_VALUES.get(option.name) or VALUES.get(settings["metavar"], ("anything", ""))


def test_the_metadata_is_what_the_flags_say() -> None:
    written = json.loads(METADATA.read_text(encoding="utf-8"))
    assert written == metadata(), "run `make docs`: the file is generated from beam_pipeline/flags/config.py"


def test_every_flag_is_a_parameter_with_a_help_text() -> None:
    parameters = {parameter["name"]: parameter for parameter in metadata()["parameters"]}
    flags = {flag_name(option).removeprefix("--") for option in OPTIONS if option.name not in WITHOUT_PARAMETER}
    assert set(parameters) == {*flags, "sdk_container_image", "disk_size_gb"}
    assert all(parameter["label"] and parameter["helpText"] for parameter in parameters.values())
    required = {name for name, parameter in parameters.items() if not parameter.get("isOptional")}
    assert required == {"output", "sdk_container_image"}
    # The console allows no more.
    assert all(re.fullmatch(r"[a-zA-Z][\w]*", name) and len(name) < 64 for name in parameters)


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.name not in WITHOUT_PARAMETER], ids=lambda o: o.name)
def test_the_pattern_of_a_parameter_lets_good_values_pass_and_stops_others(option: dataclasses.Field[Any]) -> None:
    good, bad = values_of(option)
    name = flag_name(option).removeprefix("--")
    (pattern,) = next(row for row in metadata()["parameters"] if row["name"] == name)["regexes"]
    assert re.fullmatch(pattern, good)
    assert re.fullmatch(pattern, "") is None if option.name == "output" else re.fullmatch(pattern, "")
    if bad:
        assert re.fullmatch(pattern, bad) is None
    if option.default not in (None, False, (), ""):
        assert re.fullmatch(pattern, str(option.default))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_flag_is_understood_as_a_launcher_gives_it(option: dataclasses.Field[Any]) -> None:
    flag, (good, _) = flag_name(option), values_of(option)
    argv = list(from_launcher([f"{flag}={good}"]))
    if option.default is False:
        assert argv == [flag]
        assert list(from_launcher([f"{flag}=false"])) == list(from_launcher([f"{flag}=False"])) == []
    elif "nargs" in option.metadata["options"]:
        assert argv == [flag, *good.split(",")]
    else:
        assert argv == [f"{flag}={good}"]
    assert list(from_launcher([f"{flag}="])) == []


def test_a_launchers_command_line_is_that_of_the_program() -> None:
    launcher = [*BASE, "--exif=true", "--overwrite=false", "--captions=", "--outputs=tfrecord,lmdb", "--subnetwork="]
    beams = ["--runner=DataflowRunner", "--template_location=gs://b/job_object", "--labels={\n 'a' : 'b' }"]
    config, beam_flags = parse_args(list(from_launcher([*launcher, "--experiments=a,b", *beams])))
    assert config.exif and not config.overwrite and config.captions is None
    assert config.outputs == ("tfrecord", "lmdb") and config.images == ("gs://b/a",)
    assert beam_flags == ["--experiments=a,b", *beams]
    sources = from_launcher(["--images=gs://b/{a,b}/*.jpg,gs://b/c.zip,", "--images", "x"])
    assert list(sources) == ["--images", "gs://b/{a,b}/*.jpg", "gs://b/c.zip", "--images", "x"]


def test_a_switch_that_is_neither_true_nor_false_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BASE, "--exif=yes"]) == 2
    assert capsys.readouterr().err == "beam_pipeline: --exif: expected true or false, got 'yes'\n"


def test_the_script_runs_from_a_folder_of_its_own_and_hides_no_module(tmp_path: Path) -> None:
    shutil.copy(ROOT / "deploy" / "template" / "main.py", tmp_path)
    # In the image the packages are installed; here they are on the path.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "main.py"), "--images=gs://b/a", "--weights=", "--output=gs://b/o"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "beam_pipeline: --weights FILE is missing: the network's weights; see docs/weights.md\n"
    assert sorted(path.name for path in (ROOT / "deploy" / "template").glob("*.py")) == ["main.py"]
