"""What verify says of good outputs, remote ones, other sets, and wrong use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from beam_pipeline.pipeline import main as run_pipeline
from beam_pipeline.verify import command as verify
from region_features.exports.lmdb import LmdbExport
from region_features.validation.record import Problem
from tests.conftest import TINY_WEIGHTS, write_photo
from tests.samples.buckets import upload
from tests.samples.damage import (  # noqa: F401
    SHARD,
    build_anew,
    copied_output,
    flip_byte,
    lines_of,
    made_once,
    verified,
    with_array,
)
from tests.samples.fakes import FakeHandler, fake_prepare
from tests.samples.program import VOLTA
from transforms import files


def test_a_good_output_is_good(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = verified(out, capsys)
    assert lines == [f"{out}: 14 records in 6 shards, compared with 2 lmdb: nothing wrong"]
    assert status == 0


def test_outputs_that_were_not_asked_for_are_not_reported_missing(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--corpus", corpus, "--weights", TINY_WEIGHTS, "--output", tmp_path / "o", "--outputs", "tfrecord"]
    assert run_pipeline([str(flag) for flag in flags], FakeHandler(), fake_prepare) == 0
    assert verified(tmp_path / "o", capsys)[0] == 0
    flags = ["--corpus", corpus, "--output", tmp_path / "c", "--outputs", "captions"]
    assert run_pipeline([str(flag) for flag in flags]) == 0
    assert verified(tmp_path / "c", capsys)[0] == 0


def test_nan_in_shards_is_no_difference_of_an_lmdb_built_from_them(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """NaN compares as itself: an LMDB built from shards with NaN equals them."""
    with_array("features", (0, 0), np.nan)(out)
    build_anew(LmdbExport(), out)
    _, lines = verified(out, capsys)
    assert {line.partition(":")[0] for line in lines[:-1]} == {"nan", "manifest"}  # the manifest has the old sha256


def test_problems_of_a_kind_are_counted_from_the_twentieth_on() -> None:
    problems = [Problem("nan", f"image {number}") for number in range(23)] + [Problem("order", "a\nb")]
    lines = list(verify.problem_lines(problems))
    assert lines[0] == "nan: image 0" and lines[19] == "nan: image 19"
    assert lines[20:] == ["order: a b", "nan: and 3 more"]


@pytest.mark.parametrize("content", [None, "strangers"])
def test_a_folder_that_is_no_output_is_wrong_use(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "none"
    if content:
        folder.mkdir()
        (folder / "notes.txt").write_text(content)
    assert verify.main([str(folder)]) == 2
    assert f"verify: {folder}: expected the --output of a run" in capsys.readouterr().err


def test_a_lost_caption_line_of_another_set_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    rows = []
    for number in range(3):
        write_photo(photos / f"dog_{number}.png", number)
        sentences = [{"raw": f"dog {number}", "sentid": number}]
        row = {"filename": f"dog_{number}.png", "split": "val", "sentences": sentences, "cocoid": 70 + number}
        rows.append(row)
    (tmp_path / "c.json").write_text(json.dumps({"images": rows}))
    flags = [
        "--images",
        photos,
        "--captions",
        tmp_path / "c.json",
        "--weights",
        TINY_WEIGHTS,
        "--output",
        tmp_path / "o",
    ]
    assert run_pipeline([str(flag) for flag in flags], FakeHandler(), fake_prepare) == 0
    assert verified(tmp_path / "o", capsys)[0] == 0
    lines_of("valid_ann.jsonl", lambda lines: lines[1:])(tmp_path / "o")
    status, lines = verified(tmp_path / "o", capsys)
    assert status == 1 and "expected a line for image dog_0" in lines[0]


def test_what_is_unfinished_or_somebody_elses_is_noted_and_a_rerun_deletes_the_unfinished(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o"
    flags = ["--corpus", corpus, "--weights", TINY_WEIGHTS, "--output", out, "--outputs", "tfrecord"]
    assert run_pipeline([str(flag) for flag in flags], FakeHandler(), fake_prepare) == 0
    (out / "mine").mkdir()
    for place in ("mine/a.txt", ".tmp-lmdb-1/data.mdb", VOLTA / "trainval_feat.lmdb/.tmp-1-data.mdb", "tsv6/.tmp-1-a"):
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        (out / place).write_text("x")
    status, lines = verified(out, capsys)
    assert status == 0 and lines[:2] == [
        f"note: 3 unfinished files of a killed or running attempt are there, {out}/.tmp-lmdb-1/data.mdb for one; the "
        "run's command deletes them at its end",
        f"note: 1 files and folders are no run's, {out}/mine for one",
    ]
    assert run_pipeline([str(flag) for flag in flags], FakeHandler(), fake_prepare) == 0
    assert not list(out.rglob(".tmp-*")) and (out / "mine" / "a.txt").exists()


def test_a_remote_output_is_verified_but_for_its_lmdbs(
    bucket: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in out.rglob("*"):
        if path.is_file():
            upload(path, f"{bucket}/out/{path.relative_to(out)}")
    status, lines = verified(f"{bucket}/out", capsys)
    assert status == 0, lines
    assert lines[0].startswith("note: the outputs lmdb are remote") and "14 records in 6 shards" in lines[1]
    old = f"{bucket}/out/tfrecord/old.tfrecord"
    upload(out / SHARD, old)
    upload(out / SHARD, f"{bucket}/out/mine/a")
    status, lines = verified(f"{bucket}/out", capsys)
    assert status == 1 and lines[0] == f"stray: {old}: manifest.json does not list it; delete it"
    assert lines[2] == f"note: 1 files and folders are no run's, {bucket}/out/mine/a for one"
    files.delete_files([old])
    flip_byte(out)
    upload(out / SHARD, f"{bucket}/out/{SHARD}")
    status, lines = verified(f"{bucket}/out", capsys)
    assert status == 1 and "expected checksum" in lines[0]
    assert verify.main([f"{bucket}/none"]) == 2
