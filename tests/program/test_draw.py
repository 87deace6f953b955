"""`inspect --draw`: the image is found by the plan and drawn, or refused in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_pipeline.inspect import command as show
from beam_pipeline.pipeline import main as run_pipeline
from region_features.drawing.regions import draw_regions
from region_features.formats.tsv import encode_tsv_row
from region_features.images.decode import decode_image
from tests.conftest import TINY_WEIGHTS, write_photo
from tests.samples.fakes import FakeHandler, fake_prepare, fake_record
from tests.samples.records import make_record


def run(*flags: object) -> None:
    assert run_pipeline([str(flag) for flag in flags], FakeHandler(), fake_prepare) == 0


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run on one photo."""
    write_photo(tmp_path / "photos" / "x_1.png", 1, (300, 400))
    run("--images", tmp_path / "photos", "--weights", TINY_WEIGHTS, "--output", tmp_path / "out")
    return tmp_path / "out"


def drawn(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = show.main([str(word) for word in argv])
    captured = capsys.readouterr()
    return status, captured.out.splitlines()[-1] if captured.out else "", captured.err


def test_the_image_of_the_plan_is_drawn(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, photo = tmp_path / "x.png", tmp_path / "photos" / "x_1.png"
    status, line, err = drawn(capsys, out, "1", "--draw", target)
    assert (status, line, err) == (0, f"{target}: 3 of 3 boxes on {photo}", "")
    pixels = decode_image(photo.read_bytes(), 10**6)
    expected = draw_regions(pixels, fake_record(fake_prepare("x_1", pixels)))
    with Image.open(target) as picture:
        assert picture.format == "PNG" and np.array_equal(np.asarray(picture), np.asarray(expected))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["x.png"]


def test_names_number_and_confidence_choose_what_is_drawn(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\nd\n")
    pictures = []
    choices: tuple[list[object], ...] = ([], ["--names", names], ["--top", 1], ["--min_confidence", 1])
    for number, flags in enumerate(choices):
        status, line, _ = drawn(capsys, out, "1", "--draw", tmp_path / f"{number}.jpg", *flags)
        assert status == 0
        pictures.append((tmp_path / f"{number}.jpg").read_bytes())
    assert line.startswith(f"{tmp_path / '3.jpg'}: 0 of 3 boxes on ")
    assert len(set(pictures)) == 4
    assert all(picture[:2] == b"\xff\xd8" for picture in pictures)


def test_an_image_of_two_sets_is_drawn_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b"):
        write_photo(tmp_path / folder / "x_1.png", 1)
    run("--images", tmp_path / "a", tmp_path / "b", "--weights", TINY_WEIGHTS, "--output", tmp_path / "out")
    assert drawn(capsys, tmp_path / "out", "x_1", "--draw", tmp_path / "x.png")[0] == 0
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["x-a.png", "x-b.png"]


def test_an_imported_image_is_drawn_on_the_image_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.tsv").write_bytes(encode_tsv_row(make_record("x_1"), 13))
    run("--import_tsv", tmp_path / "x.tsv", "--output", tmp_path / "out", "--outputs", "tfrecord")
    status, _, err = drawn(capsys, tmp_path / "out", "1", "--draw", tmp_path / "x.png")
    assert status == 2
    assert err == "inspect: image x_1 was imported without its image; name the image: --image FILE\n"
    write_photo(tmp_path / "photo.png", 1, (480, 640))
    flags = ("--draw", tmp_path / "x.png", "--image", tmp_path / "photo.png")
    status, _, err = drawn(capsys, tmp_path / "out", "1", *flags)
    assert (status, err) == (0, "") and (tmp_path / "x.png").is_file()


def test_an_image_that_is_gone_replaced_or_damaged_is_named(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, target = tmp_path / "photos" / "x_1.png", tmp_path / "x.png"
    shutil.copy(photo, tmp_path / "moved.png")
    elsewhere = "if the image lies elsewhere now, name it: --image FILE\n"
    write_photo(photo, 2, (300, 400))
    status, _, err = drawn(capsys, out, "1", "--draw", target)
    assert (status, err) == (0, f"inspect: {photo}: is not the file that was read, its sha256 differs\n")
    target.unlink()
    write_photo(photo, 2, (60, 40))
    status, _, err = drawn(capsys, out, "1", "--draw", target)
    assert (
        status == 2
        and f"{photo}: expected an image, got: image x_1: expected 400 x 300 pixels as its record says, got 40 x 60"
        in err
    )
    photo.write_text("no image")
    status, _, err = drawn(capsys, out, "1", "--draw", target)
    assert (
        status == 2
        and err.startswith(f"inspect: {photo}: expected an image, got: not an image of a known format")
        and err.endswith(elsewhere)
    )
    photo.unlink()
    status, _, err = drawn(capsys, out, "1", "--draw", target)
    assert (status, err) == (2, f"inspect: {photo}: expected an image, got: No such file or directory; {elsewhere}")
    status, _, err = drawn(capsys, out, "1", "--draw", target, "--image", "none.png")
    no_image = "inspect: --image none.png: expected an image, got: No such file or directory; check the path\n"
    assert (status, err) == (2, no_image)
    assert not target.exists()
    assert drawn(capsys, out, "1", "--draw", target, "--image", tmp_path / "moved.png")[0] == 0
    status, _, err = drawn(capsys, out, "1", "--draw", target / "x.png", "--image", tmp_path / "moved.png")
    assert status == 2 and err.startswith(f"inspect: --draw {target}/x.png: expected a file to write, got: ")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["1", "--draw", "x.bmp"], "--draw x.bmp: expected a name that ends in .png, .jpg, .jpeg"),
        (["1", "--draw", "x.png", "--top", "0"], "--top: expected a number from 1, got 0"),
        (["1", "--draw", "x.png", "--min_confidence", "2"], "--min_confidence: expected a number from 0 to 1, got 2.0"),
        (["--draw", "x.png"], "--draw: expected the image to draw; give its IMG_ID after OUT"),
        (["1", "--top", "3"], "--top: expected --draw FILE beside it, the picture to write"),
        (["1", "--draw", "tests.png"], "--draw tests.png: expected a file to write, got a folder; name a file in it"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    flags: list[str],
    message: str,
    out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tests.png").mkdir()
    assert drawn(capsys, out, *flags) == (2, "", f"inspect: {message}\n")


def test_a_laptop_without_pillow_is_told_what_to_install(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_pipeline.inspect.draw.missing_modules", lambda extra: ["torch", "PIL"])
    status, _, err = drawn(capsys, out, "1", "--draw", "x.png")
    assert status == 2 and err.startswith("inspect: --draw: PIL ") and "worker" in err
