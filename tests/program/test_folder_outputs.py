"""Outputs that are folders of files, file to file: verified, deleted by `--overwrite`, on gs://."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import tree_bytes, write_photo
from tests.samples.buckets import download, upload
from tests.samples.damage import FIRST, verified
from tests.samples.folder_outputs import (  # noqa: F401
    OUTPUTS,
    TAR,
    copied_output,
    edit_content,
    made_once,
    relist,
)
from tests.samples.program import run


def test_a_good_output_is_good(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compared = "3 openvqa, 3 webdataset, 3 parquet, 3 coco-json"
    assert verified(out, capsys) == (0, [f"{out}: 15 records in 6 shards, compared with {compared}: nothing wrong"])
    relist(out, TAR)
    edit_content(lambda content: None)(out)
    assert verified(out, capsys)[0] == 0


def test_sha256sum_checks_the_lists_from_their_folder(out: Path) -> None:
    for listing in sorted(out.rglob("*/*.sha256")):
        done = subprocess.run(
            ["sha256sum", "--check", "--strict", listing.name], cwd=listing.parent, capture_output=True
        )
        assert done.returncode == 0 and done.stdout.count(b": OK") > 0


def test_overwrite_deletes_what_is_listed_and_nothing_else(out: Path, corpus: Path) -> None:
    (out / TAR.parent / "mine.txt").write_text("mine")
    photos = corpus / "images" / "test2015"
    assert run("--images", photos, "--output", out, "--outputs", "tfrecord", "--overwrite") == 0
    left = {name for name in tree_bytes(out) if not name.startswith("tfrecord/")}
    assert left == {
        "failures.jsonl",
        "manifest.json",
        "manifest.json.sha256",
        "plan.jsonl",
        "webdataset/train2014/mine.txt",
    }


def test_the_summary_names_the_folder(out: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--corpus", corpus, "--output", out, "--outputs", "webdataset") == 0
    assert f"{out}/webdataset/train2014: 7 records in 2 tars, " in capsys.readouterr().out


def test_both_forms_of_a_format_stand_side_by_side(out: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--corpus", corpus, "--output", out, "--outputs", "imagecaptioning"]
    assert run(*flags) == 0 and run(*flags, "--imagecaptioning_form", "files") == 0
    assert f"{out}/imagecaptioning/cocobu_att: 12 files, " in capsys.readouterr().out
    listed = json.loads((out / "manifest.json").read_text())["files"]["imagecaptioning"]
    folders = ["cocobu_att", "cocobu_box", "cocobu_fc", "test2015bu_att", "test2015bu_box", "test2015bu_fc"]
    assert sorted(listed) == sorted(["cocobu", "test2015bu", *folders])
    status, lines = verified(out, capsys)
    assert (status, lines[0].count("8 imagecaptioning")) == (0, 1), lines
    (out / "imagecaptioning" / "cocobu_fc" / "10.npy").unlink()
    relist(out, Path("imagecaptioning") / "cocobu_fc" / "10.npy")
    status, lines = verified(out, capsys)
    assert status == 1 and re.match(rf"imagecaptioning: .*cocobu_fc: expected 10.npy for {FIRST} of", lines[0])


def test_names_that_a_tar_cannot_hold_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photo(tmp_path / "photos" / f"{'a' * 99}.png", 1)
    flags = ["--images", tmp_path / "photos", "--output", tmp_path / "o", "--outputs"]
    assert run(*flags, "tfrecord,webdataset") == 2
    error = capsys.readouterr().err
    assert "the output webdataset cannot hold an id of more than 88 bytes" in error and error.count("\n") == 1
    assert not (tmp_path / "o").exists()
    assert run(*flags, "tfrecord") == 0


def test_a_bucket_gets_the_same_folders_and_loses_them_by_overwrite(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        write_photo(tmp_path / "photos" / f"p_{number}.png", number)
    flags = ["--images", tmp_path / "photos", "--num_shards", 2, "--outputs"]
    assert run(*flags, f"tfrecord,{OUTPUTS}", "--output", f"{bucket}/out") == 0
    assert run(*flags, f"tfrecord,{OUTPUTS}", "--output", tmp_path / "out") == 0
    remote, local = download(f"{bucket}/out"), tree_bytes(tmp_path / "out")
    names = [name for name in local if name.startswith(tuple(OUTPUTS.split(",")))]
    assert len(names) >= 4
    assert sorted(remote) == sorted(local) and all(remote[name] == local[name] for name in names)

    status, lines = verified(f"{bucket}/out", capsys)
    assert status == 0, lines
    upload(tmp_path / "photos" / "p_0.png", f"{bucket}/out/webdataset/photos/mine.png")
    status, lines = verified(f"{bucket}/out", capsys)
    assert status == 1 and re.match("stray: .*/webdataset/photos/mine.png", lines[0])

    assert run(*flags, "tfrecord", "--output", f"{bucket}/out", "--overwrite") == 0
    left = [name for name in download(f"{bucket}/out") if name.startswith(tuple(OUTPUTS.split(",")))]
    assert left == ["webdataset/photos/mine.png"]


def test_every_file_of_a_folder_with_the_longest_name_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / ("p" * 160), tmp_path / "out"
    write_photo(photos / "a_1.png", 1)
    outputs = "tfrecord,lmdb,tsv,tsv6,m2,mmf,openvqa,imagecaptioning,uniter,webdataset,parquet,coco-json"
    assert run("--images", photos, "--output", out, "--outputs", outputs) == 0
    assert run("--output", out, "--outputs", "imagecaptioning", "--imagecaptioning_form", "files") == 0
    assert verified(out, capsys)[0] == 0
