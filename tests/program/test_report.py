"""`--outputs report` and `beam_pipeline.report`: built beside the shards or later, left alone, also of failed runs."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from beam_pipeline.report import command as report
from beam_pipeline.verify import command as verify
from tests.conftest import write_photo
from tests.samples.program import run

EVIL = "<script>window.broken = 1<"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on three photos; one has no region, so that the run failed."""
    folder = tmp_path_factory.mktemp("run")
    for number, name in enumerate(("a_1", f"{EVIL}_2")):
        write_photo(folder / "photos" / f"{name}.png", number)
    (folder / "photos" / "b_3.png").write_bytes(b"no image")
    assert run("--images", folder / "photos", "--output", folder / "out", "--outputs", "tfrecord,report") == 1
    return folder / "out"


def page_of(out: Path) -> str:
    return (out / "report" / "index.html").read_text(encoding="utf-8")


def test_a_failed_run_has_its_page(out: Path) -> None:
    page = page_of(out)
    assert "The run failed: 1 of 3 images failed, more than --failure_threshold 0.01 allows" in page
    assert "Region features of 2 images" in page and "1 × decode: not an image of a known format" in page
    assert page.count("data:image/jpeg;base64,") > 2


def test_a_file_name_cannot_break_out_of_the_page(out: Path) -> None:
    page = page_of(out)
    assert EVIL not in page and html.escape(EVIL) in page


def test_the_command_leaves_a_current_page_and_builds_another(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = out / "report" / "index.html"
    page, before = page_of(out), path.stat().st_mtime_ns
    assert report.main([str(out)]) == 1
    assert path.stat().st_mtime_ns == before
    assert f"{path}: a page on 2 images and 1 failures" in capsys.readouterr().out
    path.unlink()
    assert report.main([str(out)]) == 1
    assert page_of(out) == page


def test_verify_reads_the_page(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert manifest["files"]["report"]["report"]["images"] == 2
    assert set(manifest["files"]["report"]["report"]["paths"]) == {"report/index.html", "report/report.source.json"}
    verify.main([str(out)])
    assert "report" not in "".join(line for line in capsys.readouterr().out.splitlines(True) if "compared" not in line)
    path = out / "report" / "index.html"
    page = page_of(out)
    path.write_text(page.replace("of 2 images", "of 3 images"), encoding="utf-8")
    assert verify.main([str(out)]) == 1
    assert "report/index.html" in capsys.readouterr().out
    path.write_text(page, encoding="utf-8")


def test_a_folder_without_a_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert (
        captured.err == f"report: {tmp_path}: expected the --output of a run (plan.jsonl), found none; check the path\n"
    )
    assert report.main([]) == 2
