"""The private parts of Beam that this project touches are still there; see transforms/beam_private.py."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import apache_beam.pipeline
import pytest
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.gcp import gcsio
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineRunner

from tests.conftest import ROOT
from transforms import beam_private

MOVED = "Beam no longer has {}: mend transforms/beam_private.py, then raise its bound in setup.py"


def test_option_classes_declare_their_flags_by_the_private_hook() -> None:
    assert hasattr(PipelineOptions, "_add_argparse_args"), MOVED.format("PipelineOptions._add_argparse_args")
    parser = argparse.ArgumentParser(conflict_handler="resolve", add_help=False)
    beam_private.add_beam_flags(parser)
    known, unknown = parser.parse_known_args(["--runner=x", "--flink_master=y", "--worker_machine_type=z"])
    assert unknown == [], MOVED.format(f"the flags {unknown}")
    assert known.runner == "x"


def test_run_inference_is_imported_without_torch() -> None:
    code = "import sys, transforms.beam_private; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", MOVED.format("torch in apache_beam.ml.inference.model_manager alone")


def test_the_in_process_runner_is_there() -> None:
    assert isinstance(beam_private.in_process_runner(), PipelineRunner), MOVED.format("FnApiRunner")


def test_a_notebook_is_a_script_while_a_run_lasts() -> None:
    names = ("is_in_ipython", "alter_label_if_ipython")
    assert all(hasattr(apache_beam.pipeline, name) for name in names), MOVED.format(f"{names} in its pipeline")
    before = [getattr(apache_beam.pipeline, name) for name in names]
    with beam_private.as_in_a_script():
        assert all(getattr(apache_beam.pipeline, name) is not part for name, part in zip(names, before, strict=True))
    assert [getattr(apache_beam.pipeline, name) for name in names] == before


def test_streams_of_google_storage_have_a_chunk_size() -> None:
    source = Path(gcsio.__file__).read_text()
    assert "chunk_size" in source, MOVED.format("a chunk size in gcsio")


def test_random_reads_set_the_chunk_size_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        _chunk_size = 16 << 20

    def open_remote(path: str, compression_type: Any) -> Stream:
        assert compression_type == CompressionTypes.UNCOMPRESSED
        return Stream()

    monkeypatch.setattr(FileSystems, "open", open_remote)
    assert beam_private.open_for_random_reads("gs://b/a.zip")._chunk_size == 1 << 16  # type: ignore[attr-defined]
