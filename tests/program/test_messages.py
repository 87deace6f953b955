"""What the program says of its user's mistakes: one line that says what was expected, what came and what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from beam_pipeline.inspect import command as inspect
from beam_pipeline.pipeline import main
from beam_pipeline.verify import command as verify
from tests.conftest import TINY_WEIGHTS, write_photo
from tests.samples.fakes import FakeHandler, fake_prepare
from tests.samples.program import run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with two photos in photos/2014."""
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        write_photo(Path(f"photos/2014/a_{number}.jpg"), number)
    return tmp_path


def refusal(capsys: pytest.CaptureFixture[str], *flags: object) -> str:
    """Return the one line by which the program refuses these flags."""
    capsys.readouterr()
    assert run(*flags) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("beam_pipeline: ")
    return captured.err.removeprefix("beam_pipeline: ").rstrip("\n")


def test_a_path_that_is_not_there_is_refused_at_once_and_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, "--images", "photos/2015", "--output", "out")
    assert message == (
        "--images photos/2015: expected an image, a folder, a zip archive, a .txt list or a pattern, found nothing; "
        "did you mean photos/2014?"
    )
    assert not Path("out").exists()
    assert run("--images", "photos/2014", "--output", "out") == 0


def test_folders_in_a_folder_are_read_where_that_is_asked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(capsys, "--images", "photos", "--output", "out")
    assert "folders are not searched recursively: give 'photos/**/*.jpg' in quotes, or --recursive" in message
    assert run("--images", "photos", "--recursive", "--output", "photos/out") == 0
    assert "2014: 2 of 2 images in 1 shard, 0 failed" in capsys.readouterr().out


def test_images_that_came_since_are_counted_and_reuse_is_the_way(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--images", "photos/2014", "--output", "out") == 0
    write_photo(Path("photos/2014/a_3.jpg"), 3)
    assert refusal(capsys, "--images", "photos/2014", "--output", "out") == (
        "--output out holds another run: the images changed: 1 new, 0 gone, photos/2014/a_3.jpg for one; to take over "
        "each record that stays the same and compute the others, write to a new folder: --output NEW --reuse out; or "
        "start afresh with --overwrite"
    )
    assert run("--images", "photos/2014", "--output", "new", "--reuse", "out") == 0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("x_007.jpg", "7.jpg"),
            "expected an LMDB key for each image, got '7' for both photos/7.jpg and photos/x_007.jpg: the key is the "
            "number at the end of the file's name, without leading zeros; rename one, or put it into a folder of "
            "another name",
        ),
        (
            ("cat.jpg", "cat.png"),
            "expected an LMDB key for each image, got 'cat' for both photos/cat.jpg and photos/cat.png: the key is the "
            "file's name without suffix; rename one, or put it into a folder of another name",
        ),
    ],
)
def test_two_images_of_one_key_are_named_with_the_rule(
    here: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, str], message: str
) -> None:
    for name in names:
        write_photo(Path("photos") / name, 1)
    assert refusal(capsys, "--images", "photos/*.*", "--output", "out") == message


def test_an_image_as_weights_is_named_as_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--images", "photos/2014", "--output", "out", "--weights", "photos/2014/a_1.jpg"]
    assert main(flags, FakeHandler(), fake_prepare) == 2
    assert capsys.readouterr().err == (
        "beam_pipeline: --weights photos/2014/a_1.jpg: expected a .caffemodel, a detectron2 pickle, a torch .pth or "
        ".bin, or a .safetensors, got a JPEG image; images are named by --images, and the network's file by --weights\n"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--corpus", "nowhere"], "--corpus nowhere: expected a folder, found nothing; check the path"),
        (["--corpus", "empty.txt"], "--corpus empty.txt: expected a folder, found a file; check the path"),
        (
            ["--images", "gs:/bucket/a"],
            "--images: expected two slashes, got 'gs:/bucket/a'; did you mean gs://bucket/a?",
        ),
        (["--images", "gs://"], "--images: expected a bucket after gs://, got 'gs://'"),
        (["--images", "file:///a"], "--images: expected a local path without file://, got 'file:///a'; write '/a'"),
        (["--images", "empty.txt"], "--images empty.txt: expected images, found none; check the path or the pattern"),
        (
            ["--images", "~/photos"],
            "--images: expected a path, got '~/photos': shells replace ~ only at the start of a word, without quotes; "
            'write "$HOME" in its place',
        ),
        (
            ["--captions", "https://x/y.json"],
            "--captions: expected a local path, or gs://BUCKET/PATH, got the web address 'https://x/y.json', which is "
            "neither read nor written; name a local copy",
        ),
        (
            ["--captions", "photos/2014/a_1.jpg"],
            "--captions photos/2014/a_1.jpg: expected captions: dataset_coco.json, COCO's captions_*.json, or JSON "
            "lines of img_id and sentences, got a JPEG image; name another file",
        ),
        (
            ["--captions", "hello.txt"],
            "--captions hello.txt: expected captions: Karpathy's dataset_coco.json with its list 'images', COCO's "
            "captions_*.json, or JSON lines of img_id and sentences, got: expected '{', got 'h'; docs/inputs.md shows "
            "each",
        ),
        (
            ["--boxes", "photos/2014/a_1.jpg"],
            '--boxes photos/2014/a_1.jpg: expected lines {"img_id": ..., "boxes": [[x1, y1, x2, y2], ...]}, got a JPEG '
            "image; name another file",
        ),
        (
            ["--captions", "rows.jsonl", "--test1k_ids", "photos/2014/a_1.jpg"],
            "--test1k_ids photos/2014/a_1.jpg: expected coco ids, one a line, got a JPEG image; name another file",
        ),
        (
            ["--detector_config", "empty.txt"],
            "--detector_config empty.txt: expected a detectron2 config in YAML, got an empty file; name another file",
        ),
        (
            ["--detector_config", "hello.txt"],
            "--detector_config hello.txt: expected a detectron2 config in YAML, lines of `NAME: VALUE`, got 'hello'",
        ),
        (
            ["--weights", "empty.txt"],
            "--weights empty.txt: expected a .caffemodel, a detectron2 pickle, a torch .pth or .bin, or a "
            ".safetensors, got an empty file; copy it again",
        ),
        (
            ["--output", "empty.txt"],
            "--output empty.txt: expected a folder to write to, got: a file; check the path, and that you may write "
            "there",
        ),
        (
            ["--outputs", "tsv"],
            "--outputs tsv: expected whole shards in out/tfrecord, found no run there; check --output, or add tfrecord "
            "to --outputs",
        ),
        (
            ["--max_boxes", "5"],
            "expected 1 <= min_boxes <= max_boxes, got 36 and 5; give both, --min_boxes 10 --max_boxes 100 for example",
        ),
    ],
)
def test_what_a_hurried_user_types_is_refused_before_the_work(
    here: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    Path("empty.txt").touch()
    Path("hello.txt").write_text("hello\n")
    Path("rows.jsonl").write_text('{"img_id": "a_1", "sentences": ["x"]}\n')
    images = [] if flags[0] in ("--images", "--corpus") else ["--images", "photos/2014"]
    output = [] if "--output" in flags else ["--output", "out"]
    weights = [] if "--weights" in flags else ["--weights", str(TINY_WEIGHTS)]
    assert main([*images, *output, *weights, *flags], FakeHandler(), fake_prepare) == 2
    assert capsys.readouterr() == ("", f"beam_pipeline: {message}\n")
    assert not Path("out").exists()


def test_web_addresses_and_an_output_among_the_images_are_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, "--images", "https://example.org/a.jpg", "--output", "out")
    assert re.match(r"--images https://example\.org/a\.jpg: .*not fetched from web addresses, since .*wget ", message)
    message = refusal(capsys, "--images", "photos/2014", "--output", "photos/2014")
    assert message.startswith("--output photos/2014: expected another folder than that of the images, photos/2014; ")


def test_names_that_a_terminal_would_act_on_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "a\x1b[31mset", str(tmp_path / "out")
    write_photo(folder / "a\x1b[31m_1.png", 1)
    (folder / "b\x1b[31m.txt").write_text("no image")
    flags = ["--images", folder, "--output", out, "--outputs", "tfrecord,lmdb"]
    assert run(*flags) == 0 and run(*flags, "--dry_run") == 0
    assert inspect.main([out]) == inspect.main([out, "1"]) == 0 and verify.main([out]) == 0
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said and said.count("\\x1b[31m") >= 8
