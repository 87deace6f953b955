"""What inspect says of a folder and of one image."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from beam_pipeline.inspect import command as show
from beam_pipeline.pipeline import main as run_pipeline
from region_features.images.decode import decode_image
from tests.conftest import ROOT, TINY_WEIGHTS, write_photo
from tests.samples.fakes import FakeHandler, fake_prepare, fake_record


@pytest.fixture
def out(corpus: Path, tmp_path: Path) -> Path:
    for number in (103, 104):
        (corpus / "images" / "val2014" / f"COCO_val2014_{number:012d}.jpg").write_text("")
    flags = ["--corpus", corpus, "--weights", TINY_WEIGHTS, "--output", tmp_path / "out", "--failure_threshold", 0.5]
    assert run_pipeline([str(flag) for flag in flags], FakeHandler(), fake_prepare) == 0
    return tmp_path / "out"


def inspected(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, list[str], str]:
    capsys.readouterr()
    status = show.main([str(word) for word in argv])
    captured = capsys.readouterr()
    return status, captured.out.splitlines(), captured.err


def test_a_folder_is_summed_up_by_sets_failures_settings_and_files(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines, err = inspected(capsys, out)
    assert (status, err) == (0, "")
    assert lines[0] == f"{out}: done: 13 of 15 images written, 2 failed"
    assert lines[1].startswith("set test2015: 3 of 3 images, 0 failed, 1 of 1 shards, ")
    assert lines[3].startswith("set val2014: 3 of 5 images, 2 failed, 1 of 1 shards, ")
    assert lines[4:6] == ["failures: 2", "  2 x decode: the file is empty (0 bytes)"]
    assert "  min_boxes: 36" in lines
    size = (out / "annotations" / "test_ann.jsonl").stat().st_size
    assert f"annotations/test_ann.jsonl: {size} bytes" in lines
    assert any(line.endswith("trainval_feat.lmdb: 10 records, volta, 32.8 kB") for line in lines)
    described = "captions: 12 images in the captions file, 4 images without captions, 1 captions without image"
    assert described in lines


def test_damaged_caption_rows_are_listed_with_the_failures(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"uri": "c.json", "img_id": "", "stage": "captions", "reason": "c.json, images[3]: missing field 'split'"}
    with (out / "failures.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    _, lines, _ = inspected(capsys, out)
    assert lines[4] == "failures: 3"
    assert lines[6] == "  1 x captions: c.json, images[3]: missing field 'split'"
    (out / "failures.jsonl").write_text("torn")
    status, _, err = inspected(capsys, out)
    assert status == 2 and "failures.jsonl: expected a failure a line" in err


def test_a_run_that_has_not_ended_is_shown_as_such(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "manifest.json").unlink()
    (out / "tfrecord" / "train2014-00000-of-00001.tfrecord").unlink()
    status, lines, _ = inspected(capsys, out)
    assert status == 0
    assert lines[0] == f"{out}: the run has not ended (no manifest.json)"
    assert lines[2] == "set train2014: 0 of 7 images, 0 failed, 0 of 1 shards, 0 bytes"


def names_file(folder: Path, count: int = 4) -> Path:
    path = folder / "names.txt"
    path.write_text("".join(f"thing {number}, thingy\n" for number in range(count)))
    return path


@pytest.mark.parametrize("name", ["COCO_train2014_000000000009", "9"])
def test_an_image_is_shown_with_its_captions_and_regions(
    name: str, out: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines, err = inspected(capsys, out, name)
    assert (status, err) == (0, "")
    photo = corpus / "images" / "train2014" / "COCO_train2014_000000000009.jpg"
    record = fake_record(fake_prepare(photo.stem, decode_image(photo.read_bytes(), 10**6)))
    assert lines[0] == f"{photo.stem} in train2014-00000-of-00001.tfrecord"
    assert lines[1].startswith(f"  file {photo.name}, sha256 ")
    assert lines[2] == "  40 x 30 pixels, LMDB key 9, 3 boxes, features of width 8"
    assert lines[3:5] == ["  split train, 6 captions", "    90  Café 9 number 0. "]
    assert len(lines) == 3 + 1 + 6 + 1 + 3
    for index, line in enumerate(lines[-3:]):
        wanted = [index, record.objects_id[index], record.objects_conf[index], record.attrs_id[index]]
        wanted += [record.attrs_conf[index], *record.boxes[index], np.linalg.norm(record.features[index])]
        np.testing.assert_allclose([float(word) for word in line.split()], wanted, atol=0.051)


def test_an_image_without_captions_is_shown_as_such(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, lines, _ = inspected(capsys, out, "COCO_test2015_000000000002")
    assert lines[3] == "  no captions"


def test_an_id_of_two_sets_shows_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b"):
        write_photo(tmp_path / folder / "x_1.png", 1)
    flags = ["--images", tmp_path / "a", tmp_path / "b", "--weights", TINY_WEIGHTS, "--output", tmp_path / "out"]
    assert run_pipeline([str(flag) for flag in flags], FakeHandler(), fake_prepare) == 0
    _, lines, _ = inspected(capsys, tmp_path / "out", "x_1")
    assert [line for line in lines if line.startswith("x_1 in")] == [
        "x_1 in a-00000-of-00001.tfrecord",
        "x_1 in b-00000-of-00001.tfrecord",
    ]


def test_an_unknown_id_is_answered_with_the_nearest_ones(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, err = inspected(capsys, out, "COCO_train2014_00000000009")
    assert (status, lines) == (2, [])
    assert "no image 'COCO_train2014_00000000009' among the 13 of" in err
    assert "the nearest are COCO_train2014_000000000009, " in err
    status, _, err = inspected(capsys, out, "COCO_val2014_000000000103")
    assert status == 2 and "gave no record: decode: the file is empty" in err


def test_wrong_use_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = inspected(capsys, tmp_path)
    assert status == 2 and "expected the --output of a run" in err
    assert show.main([]) == 2
    assert capsys.readouterr().err == "inspect: expected OUT, got nothing; see --help\n"


def test_the_module_runs_as_a_command(out: Path) -> None:
    command = [sys.executable, "-m", "beam_pipeline.inspect", str(out), "9"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("COCO_train2014_000000000009 in ")


def test_names_of_a_file_stand_beside_the_ids(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, err = inspected(capsys, out, "9", "--names", names_file(tmp_path))
    assert (status, err) == (0, "")
    assert lines[-4].endswith("     norm  names")
    for line in lines[-3:]:
        words = line.split()
        assert line.endswith(f"  thing {words[1]} {float(words[2]):.2f}")


def test_names_of_another_network_or_none_at_all_are_refused(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = inspected(capsys, out, "9", "--names", names_file(tmp_path, 80))
    assert status == 2
    assert err.endswith(
        "names.txt: expected a line for each class of the network, got 80 lines for a network of 4 classes; "
        "name the file of this network's classes\n"
    )
    (tmp_path / "names.txt").write_bytes(b"\xff\n")
    status, _, err = inspected(capsys, out, "9", "--names", tmp_path / "names.txt")
    assert status == 2 and err.endswith("names.txt: expected UTF-8 text, a name a line, got the byte 0xff\n")
    status, _, err = inspected(capsys, out, "9", "--names", tmp_path / "none.txt")
    assert status == 2 and "No such file" in err and len(err.splitlines()) == 1
