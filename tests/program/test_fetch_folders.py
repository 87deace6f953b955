"""Files of folders that have lists of their own arrive, and go with their list."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipeline.fetch.command import FETCHED, main
from beam_pipeline.verify.command import verify
from tests.conftest import tree_bytes, write_photo
from tests.samples.program import run as run_pipeline


def fetched_tree(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree_bytes(folder).items() if name != FETCHED}


@pytest.fixture
def run(photos: Path, tmp_path: Path) -> Path:
    """An output with a folder that has a list of its own."""
    flags = ["--images", photos, "--output", tmp_path / "run", "--outputs", "tfrecord,webdataset,openvqa"]
    assert run_pipeline(*flags) == 0
    return tmp_path / "run"


def test_the_files_of_listed_folders_arrive_and_go_with_their_list(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([str(run), str(out)]) == 0
    assert fetched_tree(out) == tree_bytes(run) and len(list(out.glob("openvqa/photos/*.npz"))) == 6
    assert verify(str(out)).problems == ()
    (out / "webdataset" / "photos" / "000000.tar").write_text("damaged")
    (out / "openvqa" / "photos" / "photo_3.jpg.npz").unlink()
    assert main([str(run), str(out), "--outputs", "webdataset"]) == 0
    assert not (out / "openvqa" / "photos" / "photo_3.jpg.npz").exists()
    assert main([str(run), str(out)]) == 0
    assert fetched_tree(out) == tree_bytes(run)
    flags = [
        "--images",
        tmp_path / "one" / "photo_1.png",
        "--output",
        tmp_path / "next",
        "--outputs",
        "tfrecord,openvqa",
    ]
    write_photo(tmp_path / "one" / "photo_1.png", 1)
    assert run_pipeline(*flags) == 0
    assert main([str(tmp_path / "next"), str(out)]) == 0
    assert fetched_tree(out) == tree_bytes(tmp_path / "next")


def test_a_list_that_is_not_the_manifests_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "openvqa" / "photos" / "photo_3.jpg.npz").unlink()
    assert main([str(run), str(tmp_path / "out")]) == 1
    assert "photos.sha256: lists 'photo_3.jpg.npz', which is not there" in capsys.readouterr().err
    (run / "openvqa" / "photos.sha256").write_text("")
    assert main([str(run), str(tmp_path / "out")]) == 1
    assert "photos.sha256: expected the SHA-256 that manifest.json lists" in capsys.readouterr().err
