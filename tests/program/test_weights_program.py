"""Weights of other formats: converted, inspected and run from the command line."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from beam_pipeline.pipeline import main as run_pipeline
from beam_pipeline.weights.command import main
from region_features.detector.weights.safetensors_file import encode_weights
from region_features.detector.weights.weights_file import read_weights
from region_features.formats.example import decode_example
from region_features.formats.tfrecord import read_records
from region_features.records.region_record import RegionRecord
from tests.conftest import TINY_WEIGHTS, write_photo
from tests.samples.file_server import serving
from tests.samples.weight_files import detectron2_order, without_attributes, write_pickle


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def port(tmp_path: Path) -> Path:
    """Write the weights in the layout of detectron2 ports, without attribute head."""
    path = tmp_path / "port.pkl"
    write_pickle(path, without_attributes(detectron2_order()))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photo(tmp_path / "photos" / "a.png", 1, (60, 80))
    write_photo(tmp_path / "photos" / "b.png", 2, (80, 60))
    return tmp_path / "photos"


def detect(photos: Path, weights: object, out: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Run the network; return the manifest and the bytes of each shard."""
    argv = ["--images", str(photos), "--weights", str(weights), "--output", str(out), "--outputs", "tfrecord"]
    assert run_pipeline([*argv, "--device", "cpu"]) == 0
    shards = {path.name: path.read_bytes() for path in (out / "tfrecord").glob("*.tfrecord")}
    assert shards
    return json.loads((out / "manifest.json").read_text()), shards


def read_output(out: Path) -> list[RegionRecord]:
    records: list[RegionRecord] = []
    for path in sorted((out / "tfrecord").glob("*.tfrecord")):
        with path.open("rb") as stream:
            records.extend(decode_example(data, path.name).record for data in read_records(stream, path.name))
    return records


def test_converted_weights_give_the_same_records_bit_for_bit(
    tmp_path: Path, port: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    converted = tmp_path / "ours.safetensors"
    assert main(["convert", str(port), str(converted)]) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and printed.out.startswith(
        f"{converted}: {converted.stat().st_size} bytes, ResNet-20 from"
    )
    with safe_open(converted, framework="np") as file:
        assert file.metadata() == {
            "layout": "region-features-1",
            "source_format": "detectron2-pickle",
            "source_sha256": sha256(port),
        }
    manifest, shards = detect(photos, port, tmp_path / "one")
    note = f"{port} has no attribute head: attrs, attrs_id and attrs_conf are zeros"
    assert f"note: {note}\n" in capsys.readouterr().err and note in manifest["inputs"]["notes"]
    assert manifest["weights"] == {"format": "detectron2-pickle", "attributes": False}
    assert manifest["settings"]["weights_sha256"] == sha256(port)
    again, same = detect(photos, converted, tmp_path / "two")
    assert again["weights"] == {"format": "safetensors", "attributes": False}
    assert len(shards) == 1 and shards == same
    records = read_output(tmp_path / "one")
    assert len(records) == 2 and not any(record.attrs.any() for record in records)
    assert all(record.attrs.shape == (len(record.boxes), 401) for record in records)


def test_a_run_fetches_the_checked_weights_once(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving() as server:
        server.files["/w"] = TINY_WEIGHTS.read_bytes()
        manifest, shards = detect(photos, f"{server.base}/w", tmp_path / "one")
        assert [status for _, _, status in server.log] == [200]
    assert manifest["weights"] == {"format": "caffemodel", "attributes": True}
    assert manifest["settings"]["weights_sha256"] == sha256(TINY_WEIGHTS)
    assert shards == detect(photos, TINY_WEIGHTS, tmp_path / "two")[1]


def parse_rows(text: str) -> dict[str, str]:
    """Split the output of `inspect` into names and values."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def test_inspect_describes_a_file(tmp_path: Path, port: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(TINY_WEIGHTS)]) == 0
    assert parse_rows(capsys.readouterr().out) == {
        "file": str(TINY_WEIGHTS),
        "format": "caffemodel",
        "network": "ResNet-20",
        "blocks": "1, 1, 2, 2",
        "widths": "conv1 16, res2 8/32, res3 12/48, res4 16/64, res5 24/64, RPN 32",
        "classes": "1600 and background",
        "attributes": "400 attributes and none (embedding 16, hidden 32)",
        "bytes": str(TINY_WEIGHTS.stat().st_size),
        "sha256": sha256(TINY_WEIGHTS),
    }
    converted = tmp_path / "name.caffemodel"  # the content decides
    assert main(["convert", str(port), str(converted)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(converted)]) == 0
    rows = parse_rows(capsys.readouterr().out)
    assert rows["attributes"] == "no attribute head: attributes will be zeros"
    assert (rows["format"], rows["sha256"]) == ("safetensors", sha256(converted))
    assert rows["converted from"] == f"detectron2-pickle, sha256 {sha256(port)}"


def test_what_a_file_says_of_its_source_is_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.safetensors"
    metadata = {"source_format": "\x1b[31m\n" + "x" * 1000, "source_sha256": "\r"}
    path.write_bytes(b"".join(encode_weights(read_weights(TINY_WEIGHTS).state, metadata)))
    assert main(["inspect", str(path)]) == 0
    source = parse_rows(capsys.readouterr().out)["converted from"]
    assert source.startswith("\\x1b[31m\\nxxx") and source.endswith("..., sha256 \\r") and len(source) < 100


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and printed.err.startswith("beam_pipeline.weights: ")
    return printed.err


@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_errors_are_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    out = [str(tmp_path / "out.safetensors")] if command == "convert" else []
    path = tmp_path / "w.pkl"
    for content, message in (
        (None, f"{path}: expected a file, got: No such file or directory; check the path"),
        (b"", f"{path}: expected"),
        (pickle.dumps({"model": {"x": print}}), "asks for builtins.print, which is refused"),
        (pickle.dumps({"model": {"x": np.ones(3, np.float32)}}), "layer backbone.stem.conv1.weight is missing"),
        (TINY_WEIGHTS.read_bytes()[:-1], f"{path}: expected"),
    ):
        if content is not None:
            path.write_bytes(content)
        assert main([command, str(path), *out]) == 2
        assert message in one_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["w.pkl"]
    assert main([command, "http://example.org/w.pkl", *out]) == 2
    assert "expected https://" in one_line(capsys)
    assert main([command, str(tmp_path), *out]) == 2
    assert "directory" in one_line(capsys)


def test_a_file_is_not_converted_onto_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(TINY_WEIGHTS.read_bytes())
    assert main(["convert", str(path), str(path)]) == 2
    assert "expected another file" in one_line(capsys)
    assert path.read_bytes() == TINY_WEIGHTS.read_bytes()


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "file" / "out.safetensors"
    target.parent.write_text("not a folder")
    assert main(["convert", str(TINY_WEIGHTS), str(target)]) == 2
    assert str(target.parent) in one_line(capsys)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected command, got nothing; see --help"),
        (["inspect"], "expected FILE, got nothing; see --help"),
        (["convert", "a"], "expected OUT.safetensors, got nothing; see --help"),
        (["inspekt", "a"], "command: expected one of convert, inspect, got 'inspekt'; did you mean inspect?"),
        (["convert", str(TINY_WEIGHTS), "tests"], "tests: expected a file, got: Is a directory; check the path"),
    ],
)
def test_wrong_use_is_status_2(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert one_line(capsys) == f"beam_pipeline.weights: {message}\n"
