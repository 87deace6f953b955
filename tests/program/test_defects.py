"""Whose fault an error is: a defect of the program shows its stack, anything else is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest

from beam_pipeline.defects import is_defect
from beam_pipeline.runner import new_run
from region_features.formats.tfrecord import write_record
from region_features.records.key import lmdb_key
from tests.conftest import write_photo
from tests.samples.program import run


def refused_input(_: int) -> None:
    lmdb_key("")


def refused_input_with_a_cause(_: int) -> None:
    lmdb_key("\ud800")


def full_disk(_: int) -> None:
    raise OSError(28, "No space left on device")


def no_memory(_: int) -> None:
    raise MemoryError


def bug_in_numpy(_: int) -> None:
    np.zeros((2, 3)) @ np.zeros((2, 3))


def bug_inside_ours(_: int) -> None:
    write_record(None, b"x")  # type: ignore[arg-type]


def bug_of_a_key(_: int) -> None:
    empty: dict[str, int] = {}
    empty["image"]


STEPS = [
    (refused_input, False),
    (refused_input_with_a_cause, False),
    (full_disk, False),
    (no_memory, False),
    (bug_in_numpy, True),
    (bug_inside_ours, True),
    (bug_of_a_key, True),
]


@pytest.mark.parametrize(("step", "defect"), STEPS)
def test_an_error_is_a_defect_unless_we_raised_it_or_the_machine_did(step: Callable[[int], None], defect: bool) -> None:
    with pytest.raises(BaseException) as caught:
        step(1)
    assert is_defect(caught.value) == defect


@pytest.mark.parametrize(("step", "defect"), STEPS)
def test_an_error_is_the_same_behind_what_beam_makes_of_it(step: Callable[[int], None], defect: bool) -> None:
    pipeline = new_run([]).pipeline
    pipeline | beam.Create([1]) | beam.Map(step)
    with pytest.raises(BaseException) as caught:
        pipeline.run()
    assert is_defect(caught.value) == defect


def test_an_error_that_was_raised_from_one_of_the_machine_is_none() -> None:
    wrapped = RuntimeError("while running step WriteShards")
    wrapped.__cause__ = OSError(28, "No space left on device")
    assert is_defect(RuntimeError("alone")) and not is_defect(wrapped)


def test_a_defect_of_the_program_prints_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photo(tmp_path / "photos" / "p_1.png", 1)
    monkeypatch.setattr("transforms.shards.encode_example", None)
    assert run("--images", tmp_path / "photos", "--output", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "Traceback" in error and "object is not callable" in error.splitlines()[-1]
