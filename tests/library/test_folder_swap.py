from __future__ import annotations

import os
from pathlib import Path

import pytest

from region_features.lmdb_store.folder_swap import swapped_folder, tidy_after_kill


def fill(target: Path, text: str) -> None:
    with swapped_folder(str(target)) as folder:
        Path(folder, "data").write_text(text)


def test_appears_whole_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "x_feat.lmdb"
    fill(target, "one")
    with open(target / "data") as reader:
        fill(target, "two")
        assert reader.read() == "one"
    assert (target / "data").read_text() == "two"
    assert os.listdir(target.parent) == ["x_feat.lmdb"]


def test_a_failure_leaves_all_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "x"
    fill(target, "one")
    with pytest.raises(KeyError), swapped_folder(str(target)) as folder:
        Path(folder, "data").write_text("two")
        assert (target / "data").read_text() == "one"
        raise KeyError
    assert (target / "data").read_text() == "one"
    assert os.listdir(tmp_path) == ["x"]


def test_tidying_after_a_kill(tmp_path: Path) -> None:
    target = tmp_path / "x[1]"
    for name in (".x[1].tmp-a", ".x[1].tmp-b", ".x[1].old-a", ".x1.tmp-a", ".x[1]y.tmp-a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_text(name)
    tidy_after_kill(f"{target}/")  # killed between the two renames of a swap
    assert (target / "data").read_text() == ".x[1].old-a"
    (tmp_path / ".x[1].old-b").mkdir()
    tidy_after_kill(str(target))  # killed before the old folder was removed
    assert (target / "data").read_text() == ".x[1].old-a"
    assert sorted(os.listdir(tmp_path)) == [".x1.tmp-a", ".x[1]y.tmp-a", "x[1]"]


def test_a_file_or_link_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link", "link/"):
        with pytest.raises(FileExistsError, match="expected a folder or nothing there, got a file or link"):
            tidy_after_kill(f"{tmp_path}/{name}")
